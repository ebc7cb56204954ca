"""What pages read. Never writes, never asks a hypervisor.

`pages` what a page shows of machines, `display` how a state is said.
"""

from django.db.models import QuerySet

from accounts.models import User
from machines.models import Cluster, Machine


def any_simulated() -> bool:
    return Cluster.objects.filter(kind="simulator").exists()


def machines_for(user: User) -> QuerySet[Machine]:
    """Machines the person may see: their own; staff see all."""
    live = Machine.objects.exclude(state="destroyed")
    return live if user.runs_portal else live.filter(owner=user)
