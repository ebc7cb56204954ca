"""Who may see and do what with machines. The only door from a URL to a row."""

from collections.abc import Callable, Collection
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import Http404

from accounts.models import Role, User

from .lifecycle import State
from .models import Audience, Machine, MachineRequest, Operation, Template, Tier

# Apps above add who else may see and drive a machine: teachers those of their classes.
GRANTS: list[Callable[[User], Q]] = []


def granted(user: User) -> Q:
    """The machines a person may see and drive."""
    if user.runs_portal:
        return Q()
    allowed = Q(owner=user)
    for grant in GRANTS:
        allowed |= grant(user)
    return allowed


def access_machine(user: User, key: UUID) -> Machine:
    """The machine, or Http404: whoever may not see it does not learn that it exists."""
    machine = Machine.objects.exclude(state=State.DESTROYED).select_related("cluster", "template", "owner").filter(granted(user), key=key).distinct().first()
    if machine is None:
        raise Http404
    return machine


def accessible(user: User, machines: Collection[Machine]) -> set[int]:
    """Those that `access_machine` would give, as primary keys. One's own cost no query."""
    present = {machine.pk: machine for machine in machines if machine.state != State.DESTROYED}
    own = {pk for pk, machine in present.items() if machine.owner_id == user.pk}
    others = present.keys() - own
    return own.union(Machine.objects.filter(granted(user), pk__in=others).values_list("pk", flat=True)) if others else own


def access_operation(user: User, key: UUID) -> Operation:
    """The operation, or Http404 where the person may not see its machine."""
    operations = Operation.objects.select_related("machine", "machine__cluster", "machine__template", "machine__owner", "requested_by", "batch")
    operation = operations.filter(key=key, machine__in=Machine.objects.filter(granted(user))).first()
    if operation is None:
        raise Http404
    return operation


def can_manage(user: User, machine: Machine) -> bool:
    """Delete it, and give it any size. Machines of a class are removed on its page, by its teacher."""
    return user.runs_portal


def offered_templates(user: User) -> QuerySet[Template]:
    """What this person may ask a machine of, or make a class's machines of. Where a cluster is in
    maintenance nothing is begun, so nothing of it is offered."""
    offered = Template.objects.filter(active=True, present=True, cluster__maintenance=False).select_related("cluster")
    if user.runs_portal:
        return offered
    audiences = [Audience.EVERYBODY, Audience.TEACHERS] if user.role == Role.TEACHER else [Audience.EVERYBODY]
    chosen = Template.people.through.objects.filter(user=user).values("template")
    return offered.filter(Q(audience__in=audiences) | Q(audience=Audience.CHOSEN, pk__in=chosen))


def tiers_of(template: Template) -> QuerySet[Tier]:
    """The sizes a machine of this template may be asked in."""
    chosen = template.tiers.all()
    return chosen if chosen.exists() else Tier.objects.all()


def sizes_of(user: User, machine: Machine) -> QuerySet[Tier]:
    """What a person who is not staff may resize the machine to, of those it could be asked in: up to the size it was
    given where it was asked for, any where they teach with it."""
    offered = tiers_of(machine.template)
    if machine.adopted:
        return offered.none()
    asked: MachineRequest | None = getattr(machine, "request", None)
    if asked is None:
        return offered if user.teaches else offered.none()
    given = asked.tier
    within = Q(cores__lte=given.cores, memory_mib__lte=given.memory_mib, disk_gib__lte=given.disk_gib)
    return Tier.objects.filter(within, Q(pk=given.pk) | Q(pk__in=offered.values("pk")))


def can_resize(user: User, machine: Machine) -> bool:
    return can_manage(user, machine) or sizes_of(user, machine).exists()


def access_request(user: User, key: UUID) -> MachineRequest:
    """The request, or Http404: its person sees it, and staff."""
    requests = MachineRequest.objects.select_related("requester", "template__cluster", "tier", "decided_by", "machine__cluster", "machine__template")
    request = requests.filter(Q() if user.runs_portal else Q(requester=user), key=key).first()
    if request is None:
        raise Http404
    return request
