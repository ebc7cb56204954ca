"""What pages read. Never writes, never asks a hypervisor.

`pages` what a page shows of machines, `display` how a state is said, `queue` where an operation
stands, `load` how much a cluster has to do, `heartbeats` whether the processes live.
"""

from machines.models import Cluster


def simulated() -> list[str]:
    """The names of simulated clusters."""
    return list(Cluster.objects.filter(kind="simulator").values_list("name", flat=True))
