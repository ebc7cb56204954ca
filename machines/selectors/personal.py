"""What the portal keeps of a person's machines and accounts of clusters: for the file they take with them, and before they go."""

from collections.abc import Iterable, Mapping

from django.utils.translation import gettext as _

from accounts.models import User
from machines.lifecycle import State
from machines.models import Machine, MachineRequest, Operation

MOST_NAMED = 20


def machines(user: User) -> Iterable[Mapping[str, object]]:
    """Without what lets one in."""
    return Machine.objects.filter(owner=user).values(
        "key", "name", "state", "cluster__name", "template__name", "cores", "memory_mib", "disk_gib", "username", "seeded_with", "created_at"
    )


def realm_accounts(user: User) -> Iterable[Mapping[str, object]]:
    """The accounts of clusters that lead to this person."""
    return user.realm_identities.values("cluster__name", "userid", "role_before")


def requests(user: User) -> Iterable[Mapping[str, object]]:
    return MachineRequest.objects.filter(requester=user).values(
        "key", "template__name", "tier__name", "reason", "until", "state", "created_at", "decided_at", "answer", "machine__name"
    )


def operations(user: User) -> Iterable[Mapping[str, object]]:
    """Newest first."""
    columns = ("key", "kind", "state", "machine__name", "created_at", "finished_at")
    lines: Iterable[Mapping[str, object]] = Operation.objects.filter(requested_by=user).order_by("-id").values(*columns).iterator()
    return lines


def holdings(user: User) -> list[str]:
    """The machines that stay when this person goes, until staff decide."""
    names = list(Machine.objects.filter(owner=user).exclude(state=State.DESTROYED).order_by("name").values_list("name", flat=True)[: MOST_NAMED + 1])
    if not names:
        return []
    listed = ", ".join([*names[:MOST_NAMED], *(["…"] if len(names) > MOST_NAMED else [])])
    return [_("What becomes of these machines is decided with it: %(names)s.") % {"names": listed}]
