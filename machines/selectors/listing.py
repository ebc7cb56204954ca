"""Whole lists as programs read them, each in a fixed number of queries."""

from collections.abc import Iterable

from django.db.models import Prefetch, Q, QuerySet

from machines.lifecycle import State
from machines.models import ACTIVE, Machine, Operation, Template, Tier


def machines(whose: Q, *, state: str = "", cluster: int | None = None) -> QuerySet[Machine]:
    """Those there are, with what is being done to each in `working`, a list."""
    found = Machine.objects.filter(whose).exclude(state=State.DESTROYED)
    if state:
        found = found.filter(state=state)
    if cluster is not None:
        found = found.filter(cluster=cluster)
    active = Operation.objects.filter(state__in=ACTIVE).select_related("requested_by")
    return found.select_related("cluster", "template", "owner").prefetch_related(Prefetch("operations", queryset=active, to_attr="working"))


def sizes(templates: QuerySet[Template]) -> Iterable[tuple[Template, list[Tier]]]:
    """Templates, each with the sizes a machine of it may be asked in (`policies.tiers_of`)."""
    all_tiers = list(Tier.objects.all())
    for template in templates.prefetch_related("tiers"):
        yield template, list(template.tiers.all()) or all_tiers
