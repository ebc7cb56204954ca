"""What people ask for. Each request is one short transaction without I/O: the machine's row is
locked, the table of states asked, and operation, new state, audit, change feed and doorbell are
written together or not at all.

Who may ask is the caller's business (`machines.policies`); `acting_user` is for the record, and says how far `resize` goes.
Asking for what is being done already answers the operation that does it. All raise `Refused`.
"""

import re
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.services import audit
from machines.lifecycle import REQUEST_EVENT, Event, Kind, State, can
from machines.models import ACTIVE, Batch, Machine, Operation, OperationEvent, OperationState, Priority, Snapshot, Template
from machines.policies import can_manage, sizes_of
from machines.providers.errors import Incomplete, Unsupported
from machines.providers.registry import provider_class

from . import credentials, dispatch, quotas, steps, transitions
from .feed import machine_topics, operation_topics, publish
from .refusal import Refused

_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
SNAPSHOT_NAME = re.compile(r"^[a-z0-9][a-z0-9-]{0,39}\Z", re.IGNORECASE)


def create_machine(
    *,
    acting_user: User | None,
    template: Template,
    name: str,
    owner: User | None = None,
    cores: int,
    memory_mib: int,
    disk_gib: int | None = None,
    batch: Batch | None = None,
    priority: int = Priority.PERSON,
    start: bool = False,
) -> Machine:
    """A new machine, with credentials of its own where its template takes them, and the operation that makes it (and starts
    it, where `start`). `name` becomes the guest's host name."""
    if not _HOST_NAME.fullmatch(name):
        raise Refused(_("“%(name)s” cannot be a machine's name: letters, digits and dashes, at most 63.") % {"name": name}, code="bad_name")
    if not template.present:
        raise Refused(_("The template “%(template)s” is gone from the cluster. Choose another.") % {"template": template}, code="template_missing")
    made = credentials.make(comment=f"labportal {name}") if template.seeded else None
    with transaction.atomic():
        machine = Machine.objects.create(
            name=name,
            owner=owner,
            cluster=template.cluster,
            template=template,
            cores=cores,
            memory_mib=memory_mib,
            disk_gib=disk_gib,
            username=template.username if made else "",
            password=made.password if made else "",
            ssh_private_key=made.ssh_private_key if made else "",
            ssh_public_key=made.ssh_public_key if made else "",
        )
        operation = _record(machine, Kind.PROVISION, acting_user=acting_user, batch=batch, priority=priority, params={"start": start})
        publish(*machine_topics(machine), *operation_topics(operation))
    return machine


def start(machine: Machine, *, acting_user: User | None, priority: int = Priority.PERSON, batch: Batch | None = None) -> Operation:
    return _ask(machine, Kind.START, acting_user=acting_user, priority=priority, batch=batch)


def stop(machine: Machine, *, acting_user: User | None, priority: int = Priority.PERSON, batch: Batch | None = None) -> Operation:
    """Press the power button; force follows after the cluster's deadline."""
    return _ask(machine, Kind.STOP, acting_user=acting_user, priority=priority, batch=batch)


def force_off(machine: Machine, *, acting_user: User | None, priority: int = Priority.PERSON, batch: Batch | None = None) -> Operation:
    """Pull the plug. A graceful stop that is at work is not waited for any longer."""
    with transaction.atomic():
        _lock(machine)
        stopping = _active(machine)
        if stopping is not None and stopping.kind == Kind.STOP:
            return _escalate(stopping, machine, acting_user=acting_user)
        return _ask(machine, Kind.FORCE_OFF, acting_user=acting_user, priority=priority, batch=batch)


def restart(machine: Machine, *, acting_user: User | None, priority: int = Priority.PERSON, batch: Batch | None = None) -> Operation:
    return _ask(machine, Kind.RESTART, acting_user=acting_user, priority=priority, batch=batch)


def revert(machine: Machine, *, acting_user: User | None, snapshot: str = "", batch: Batch | None = None, priority: int = Priority.PERSON) -> Operation:
    """Back to `snapshot`, or to how the machine was made. It is on afterwards if it was before."""
    with transaction.atomic():
        _lock(machine)
        if snapshot and not machine.snapshots.filter(name=snapshot, ready=True).exists():
            raise Refused(_("%(machine)s has no snapshot “%(name)s”.") % {"machine": machine, "name": snapshot}, code="no_snapshot")
        was_on = machine.state == State.RUNNING or (machine.state == State.FAILED and machine.power == "on")
        params = {"snapshot": snapshot, "start": was_on}
        return _ask(machine, Kind.REVERT, acting_user=acting_user, priority=priority, batch=batch, params=params, same={"snapshot": snapshot})


def take_snapshot(machine: Machine, *, acting_user: User | None, name: str, note: str = "") -> Operation:
    if not SNAPSHOT_NAME.fullmatch(name):
        raise Refused(_("“%(name)s” cannot be a snapshot's name: letters, digits and dashes, at most 40.") % {"name": name}, code="bad_name")
    _needs(machine, "snapshots", _("This cluster cannot take snapshots."))
    with transaction.atomic():
        _lock(machine)
        if not machine.keeps_snapshots:
            raise Refused(_("The storage of %(machine)s keeps no snapshots.") % {"machine": machine}, code="unsupported")
        if _active(machine) is None and machine.snapshots.filter(name=name).exists():
            raise Refused(_("%(machine)s has a snapshot “%(name)s” already.") % {"machine": machine, "name": name}, code="exists")
        operation = _ask(machine, Kind.SNAPSHOT, acting_user=acting_user, params={"snapshot": name})
        Snapshot.objects.get_or_create(machine=machine, name=name, defaults={"note": note[:200]})
        return operation


def delete_snapshot(machine: Machine, *, acting_user: User | None, name: str) -> Operation:
    _needs(machine, "snapshots", _("This cluster cannot take snapshots."))
    if not machine.snapshots.filter(name=name).exists():
        raise Refused(_("%(machine)s has no snapshot “%(name)s”.") % {"machine": machine, "name": name}, code="no_snapshot")
    return _ask(machine, Kind.DELETE_SNAPSHOT, acting_user=acting_user, params={"snapshot": name})


def resize(machine: Machine, *, acting_user: User | None, cores: int, memory_mib: int, disk_gib: int | None = None) -> Operation:
    """New sizes, for a machine that is off, within the limits of its owner. The disk may only grow. Who is not staff
    stays within `policies.sizes_of`."""
    _needs(machine, "resize", _("This cluster cannot change the size of a machine."))
    with transaction.atomic():
        quotas.check_growth(machine, acting_user=acting_user, cores=cores, memory_mib=memory_mib)
        _lock(machine)
        if acting_user is not None and not can_manage(acting_user, machine):
            allowed = sizes_of(acting_user, machine)
            if not allowed.exists():
                raise Refused(_("Only staff change the size of %(machine)s.") % {"machine": machine}, code="size")
            if not allowed.filter(cores=cores, memory_mib=memory_mib, disk_gib__gte=disk_gib or 0).exists():
                sizes = {"machine": machine, "sizes": ", ".join(str(tier) for tier in allowed)}
                raise Refused(_("%(machine)s may be of these sizes: %(sizes)s. For more, ask staff.") % sizes, code="size")
        if machine.state == State.RUNNING:
            raise Refused(_("%(machine)s is on. Shut it down first.") % {"machine": machine}, code="running")
        if disk_gib is not None and machine.disk_gib is not None and disk_gib < machine.disk_gib:
            raise Refused(_("The disk can only grow: it has %(size)d GiB.") % {"size": machine.disk_gib}, code="disk_shrinks")
        return _ask(machine, Kind.RESIZE, acting_user=acting_user, params={"cores": cores, "memory_mib": memory_mib, "disk_gib": disk_gib})


def destroy(machine: Machine, *, acting_user: User | None, batch: Batch | None = None, priority: int = Priority.PERSON) -> Operation:
    """Remove the machine with its disks. Work on it that no worker has in hand is cancelled."""
    with transaction.atomic():
        _lock(machine)
        active = _active(machine)
        if machine.adopted and (message := _kept(machine, Kind.DESTROY, {})):
            raise Refused(message, code="adopted")
        if active is not None and active.kind != Kind.DESTROY and active.state != OperationState.RUNNING:
            _end(active, machine, acting_user=acting_user)
        return _ask(machine, Kind.DESTROY, acting_user=acting_user, priority=priority, batch=batch)


def adopt(machine: Machine, *, acting_user: User | None, guest: str) -> Operation:
    """The operation that labels what is at the ref of a new row, called `guest` there. See `services.adoption`."""
    with transaction.atomic():
        operation = _record(machine, Kind.ADOPT, acting_user=acting_user, batch=None, priority=Priority.PERSON, params={"guest": guest})
        publish(*machine_topics(machine), *operation_topics(operation))
        return operation


def release(machine: Machine, *, acting_user: User | None) -> Operation:
    """Forget an adopted machine: the label is taken off it and it stays as it is."""
    if not machine.adopted:
        raise Refused(_("%(machine)s was made by the portal. Delete it instead.") % {"machine": machine}, code="not_adopted")
    return _ask(machine, Kind.RELEASE, acting_user=acting_user)


def retry(machine: Machine, *, acting_user: User | None) -> Operation:
    """Try again what failed; a machine that is gone, or whose disk is, is made anew."""
    with transaction.atomic():
        _lock(machine)
        if (active := _active(machine)) is not None:
            return active
        if machine.state not in (State.FAILED, State.MISSING):  # what failed last may be a removal: it is not done again to a machine that is well
            raise Refused(
                _("There is nothing to try again: %(machine)s is “%(state)s”.") % {"machine": machine, "state": machine.get_state_display()}, code="not_now"
            )
        last = machine.operations.order_by("-id").first()
        kind = Kind(last.kind) if last is not None and last.state == OperationState.FAILED and machine.made_at else Kind.PROVISION
        if machine.problem_code == Incomplete.code or not can(machine.state, REQUEST_EVENT[kind]):
            kind = Kind.PROVISION
        if machine.adopted and kind is Kind.PROVISION:
            kind, last = Kind.ADOPT, machine.operations.filter(kind=Kind.ADOPT).last()
        params = dict(last.params) if last is not None and last.kind == kind else {}
        params.pop("force", None)
        return _ask(machine, kind, acting_user=acting_user, params=params)


def cancel(operation: Operation, *, acting_user: User | None) -> Operation:
    """End an operation that waits, for its turn or for the cluster. What it began on the
    cluster may still happen; the watcher will see it. Ended already: nothing changes."""
    with transaction.atomic():
        machine = operation.machine
        _lock(machine)
        operation.refresh_from_db()
        if not operation.is_active:
            return operation
        if operation.state == OperationState.RUNNING:
            raise Refused(_("This is being done at this moment. Try again in a few seconds."), code="busy")
        _end(operation, machine, acting_user=acting_user)
        return operation


# -- what they are made of ---------------------------------------------------------------------


def _lock(machine: Machine) -> None:
    """Lock the row and bring the caller's object up to date."""
    machine.refresh_from_db(from_queryset=Machine.objects.select_for_update(of=("self",)))


def _active(machine: Machine) -> Operation | None:
    return machine.operations.filter(state__in=ACTIVE).first()


def _needs(machine: Machine, capability: str, message: str) -> None:
    try:
        able = getattr(provider_class(machine.cluster.kind).capabilities, capability)
    except Unsupported as error:
        raise Refused(error.message, code=error.code) from error
    if not able:
        raise Refused(message, code="unsupported")


def _ask(
    machine: Machine,
    kind: Kind,
    *,
    acting_user: User | None,
    priority: int = Priority.PERSON,
    batch: Batch | None = None,
    params: dict[str, Any] | None = None,
    same: dict[str, Any] | None = None,
) -> Operation:
    """An operation of `kind`, or the one that is at the same already (`same`: the parameters
    that must be equal for that, else all)."""
    params = params or {}
    with transaction.atomic():
        _lock(machine)
        active = _active(machine)
        if active is not None:
            wanted = params if same is None else same
            if active.kind == kind and all(active.params.get(name) == value for name, value in wanted.items()):
                return _hurry(active, priority)
            message = _("%(machine)s is busy (%(doing)s). Wait until that is done, or cancel it.")
            raise Refused(message % {"machine": machine, "doing": active.get_kind_display()}, code="busy")
        if machine.adopted and (message := _kept(machine, kind, params)):
            raise Refused(message, code="adopted")
        if not can(machine.state, REQUEST_EVENT[kind]):
            raise Refused(_why_not(machine, kind), code="not_now")
        operation = _record(machine, kind, acting_user=acting_user, batch=batch, priority=priority, params=params)
        transitions.apply(machine, REQUEST_EVENT[kind], tell=operation_topics(operation))
        return operation


def _record(machine: Machine, kind: Kind, *, acting_user: User | None, batch: Batch | None, priority: int, params: dict[str, Any]) -> Operation:
    operation = Operation.objects.create(
        machine=machine,
        batch=batch,
        kind=kind,
        params=params,
        slot=steps.first_slot(kind),
        not_before=timezone.now(),
        priority=priority,
        requested_by=acting_user,
    )
    audit.record(f"machine.{kind}", acting_user=acting_user, target=machine, operation=str(operation.key), **params)
    dispatch.ring()
    return operation


def _hurry(operation: Operation, priority: int) -> Operation:
    """A person asks for what was queued as bulk: it comes sooner."""
    if priority < operation.priority:
        Operation.objects.filter(pk=operation.pk, priority__gt=priority).update(priority=priority)
        operation.priority = priority
    return operation


def _escalate(stopping: Operation, machine: Machine, *, acting_user: User | None) -> Operation:
    """Have a graceful stop use force now."""
    if not stopping.params.get("force"):
        stopping.params["force"] = True
        Operation.objects.filter(pk=stopping.pk).update(params=stopping.params)
        # One that waits for the guest goes on at once; one in a worker's hands sees it when it parks.
        Operation.objects.filter(pk=stopping.pk, state=OperationState.WAITING).update(state=OperationState.QUEUED, not_before=timezone.now())
        OperationEvent.objects.create(operation=stopping, text=_("%(who)s asked to switch it off by force.") % {"who": acting_user or _("The portal")})
        audit.record("machine.force_off", acting_user=acting_user, target=machine, operation=str(stopping.key))
        publish(*operation_topics(stopping))
        dispatch.ring()
    stopping.refresh_from_db()
    return stopping


def _end(operation: Operation, machine: Machine, *, acting_user: User | None) -> None:
    """Cancel an operation that no worker has in hand, and settle its machine as last seen."""
    ended = Operation.objects.filter(pk=operation.pk, state__in=[OperationState.QUEUED, OperationState.WAITING]).update(
        state=OperationState.CANCELLED, finished_at=timezone.now(), message=_("Cancelled."), lease="", lease_until=None
    )
    if not ended:
        raise Refused(_("This is being done at this moment. Try again in a few seconds."), code="busy")
    operation.refresh_from_db()
    OperationEvent.objects.create(operation=operation, text=_("Cancelled by %(who)s.") % {"who": acting_user or _("the portal")}, level="warning")
    audit.record("operation.cancelled", acting_user=acting_user, target=machine, operation=str(operation.key), kind=operation.kind)
    if operation.kind == Kind.SNAPSHOT:
        machine.snapshots.filter(name=operation.params["snapshot"], ready=False).delete()
    tell = operation_topics(operation)
    if machine.state in (State.PENDING, State.PROVISIONING) or (machine.state == State.REVERTING and machine.made_at is None):
        transitions.apply(machine, Event.FAIL, problem=_("Making this machine was cancelled."), code="cancelled", tell=tell)
    elif machine.power in ("on", "off"):
        transitions.apply(machine, Event.SETTLED_ON if machine.power == "on" else Event.SETTLED_OFF, tell=tell)
    else:
        transitions.apply(machine, Event.FAIL, problem=_("The work on this machine was cancelled half way."), code="cancelled", tell=tell)


def _kept(machine: Machine, kind: Kind, params: dict[str, Any]) -> str:
    """Why this is not done to a machine that was there before the portal; empty where it is."""
    name = {"machine": machine}
    match kind:
        case Kind.REVERT if not params.get("snapshot"):
            return _("%(machine)s was there before the portal, which does not know how it was made. Revert it to a snapshot.") % name
        case Kind.PROVISION:
            return _("%(machine)s was there before the portal, which cannot make it anew.") % name
        case Kind.DESTROY | Kind.RESIZE if not machine.may_destroy:
            return _("%(machine)s was there before the portal. Staff have to allow first that it is changed or deleted, or release it.") % name
    return ""


def _why_not(machine: Machine, kind: Kind) -> str:
    name = {"machine": machine}
    match State(machine.state), kind:
        case State.RUNNING, Kind.START:
            return _("%(machine)s is on already.") % name
        case State.STOPPED, Kind.STOP | Kind.FORCE_OFF:
            return _("%(machine)s is off already.") % name
        case State.STOPPED, Kind.RESTART:
            return _("%(machine)s is off. Start it instead.") % name
        case State.MISSING, _:
            return _("The cluster does not find %(machine)s. “Try again” makes it anew.") % name
        case State.FAILED, _:
            return _("%(machine)s needs attention first: %(problem)s") % {**name, "problem": machine.problem}
        case State.DESTROYED, _:
            return _("%(machine)s was deleted.") % name
    return _("%(machine)s cannot do this now: it is “%(state)s”.") % {**name, "state": machine.get_state_display()}
