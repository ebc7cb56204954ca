"""The machines of a class: making them, sharing them out, taking them back.

The row of the class is the lock of its pool: numbers, who has which machine and the waiting list
change only under it. Where a machine is locked too, the class is locked first.
"""

from collections.abc import Sequence
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import User
from accounts.services import audit
from classes import selectors
from classes.models import Enrolment, LabClass, PoolMachine
from machines.lifecycle import STABLE, Kind, State
from machines.models import Batch, Machine, OperationState, Priority
from machines.services import requests, transitions
from machines.services.feed import machine_topics, publish
from machines.services.refusal import Refused

MOST_AT_ONCE = 200
_MENDED_AT_ONCE = 20


def topic(lab_class: LabClass) -> str:
    """What pages of the class listen to."""
    return f"class:{lab_class.key}"


def lock(lab_class: LabClass) -> None:
    """Lock the row and bring the caller's object up to date. Inside a transaction only."""
    lab_class.refresh_from_db(from_queryset=LabClass.objects.select_for_update(of=("self",)))


def add_machines(lab_class: LabClass, count: int, *, acting_user: User) -> Batch:
    """Begin `count` machines, named after the class, in one batch. Whoever waits gets one of
    them at once. Raises Refused."""
    if not 1 <= count <= MOST_AT_ONCE:
        raise Refused(_("Choose between 1 and %(most)d machines.") % {"most": MOST_AT_ONCE}, code="count")
    with transaction.atomic():
        lock(lab_class)
        if lab_class.archived_at is not None:
            raise Refused(_("%(class)s is archived. Restore it before you add machines.") % {"class": lab_class}, code="archived")
        _check_room(lab_class, count)
        title = ngettext("%(count)d machine for %(class)s", "%(count)d machines for %(class)s", count) % {"count": count, "class": lab_class}
        batch = Batch.objects.create(title=title, requested_by=acting_user)
        _make(lab_class, count, acting_user=acting_user, batch=batch, priority=Priority.BULK)
        audit.record("pool.add", acting_user=acting_user, target=lab_class, count=count, batch=str(batch.key))
        fill_waiting_list(lab_class, acting_user=acting_user)
        publish(topic(lab_class))
    return batch


def fill_waiting_list(lab_class: LabClass, *, acting_user: User | None) -> list[PoolMachine]:
    """Give free machines to those who wait, in the order they joined, made machines before
    machines still being made. Call it under the lock of the class. Returns the places given."""
    if lab_class.archived_at is not None:
        return []
    waiting = list(selectors.waiting(lab_class)[:MOST_AT_ONCE])
    given = []
    places = list(selectors.free_places(lab_class)[: len(waiting)])
    transitions.lock(place.machine_id for place in places)
    for enrolment, place in zip(waiting, places, strict=False):
        _assign(place, enrolment, acting_user=acting_user)
        given.append(place)
    if given:
        tell_waiting(lab_class)
    return given


def tell_waiting(lab_class: LabClass) -> None:
    """Those who wait have moved up: their pages show their position."""
    publish(*(f"owner:{enrolment.student_id}" for enrolment in selectors.waiting(lab_class)[:MOST_AT_ONCE]))


def remove_machines(lab_class: LabClass, places: Sequence[PoolMachine], *, acting_user: User) -> Batch:
    """Destroy these machines, whoever has them. Their students stay in the class: they get a
    free machine or wait for one."""
    with transaction.atomic():
        lock(lab_class)
        ours = _current(lab_class, places)
        if not ours:
            raise Refused(_("These machines are not in the class any more."), code="gone")
        title = ngettext("Delete %(count)d machine of %(class)s", "Delete %(count)d machines of %(class)s", len(ours))
        batch = Batch.objects.create(title=title % {"count": len(ours), "class": lab_class}, requested_by=acting_user)
        for place in ours:
            retire(place, acting_user=acting_user, batch=batch, priority=Priority.BULK)
        audit.record("pool.remove", acting_user=acting_user, target=lab_class, machines=[place.machine.name for place in ours], batch=str(batch.key))
        fill_waiting_list(lab_class, acting_user=acting_user)
        publish(topic(lab_class))
    return batch


def replace(lab_class: LabClass, places: Sequence[PoolMachine], *, acting_user: User, batch: Batch) -> None:
    """Destroy machines that were used and begin as many fresh ones, with credentials of their
    own, at the lowest priority. Call it under the lock of the class."""
    for place in places:
        retire(place, acting_user=acting_user, batch=batch, priority=Priority.REFILL)
    if lab_class.archived_at is None and places:
        try:
            _make(lab_class, len(places), acting_user=acting_user, batch=batch, priority=Priority.REFILL)
        except Refused as refused:  # no template to make them of: the old machines go all the same
            audit.record("pool.refill", acting_user=acting_user, target=lab_class, outcome=refused.code, count=len(places))


def retire(place: PoolMachine, *, acting_user: User | None, batch: Batch | None = None, priority: int = Priority.PERSON) -> None:
    """Take a machine from its student and out of the pool, and destroy it: now, or when what
    is being done to it has ended. Call it under the lock of the class."""
    machine = place.machine
    publish(*machine_topics(machine))  # while it still has the owner who must hear of it
    place.enrolment, place.retired_at = None, timezone.now()
    place.save(update_fields=["enrolment", "retired_at"])
    Machine.objects.filter(pk=machine.pk).update(owner=None)
    _destroy(place, acting_user=acting_user, batch=batch, priority=priority)


def retry(place: PoolMachine, *, acting_user: User) -> None:
    """Try again what failed with this machine. Raises Refused."""
    with transaction.atomic():
        lock(place.lab_class)
        place.refresh_from_db(fields=["enrolment", "assigned_at", "retired_at"])
        if place.is_spent:
            requests.destroy(place.machine, acting_user=acting_user)
        else:
            requests.retry(place.machine, acting_user=acting_user)
            fill_waiting_list(place.lab_class, acting_user=acting_user)
        publish(topic(place.lab_class))


# -- what the machines tell --------------------------------------------------------------------


def heard(machine: Machine) -> None:
    """A machine moved (`machines.services.transitions.LISTENERS`). What follows for its class is
    done after that transaction: it holds the machine, and the class is locked before machines."""
    if machine.state in STABLE:
        transaction.on_commit(partial(settle, machine.pk), robust=True)


def class_topics(machine: Machine) -> list[str]:
    """For `machines.services.feed.TOPICS`."""
    key = PoolMachine.objects.filter(machine=machine).values_list("lab_class__key", flat=True).first()
    return [f"class:{key}"] if key else []


def settle(machine_pk: int) -> None:
    """Do what a machine at rest lets its class do: share it out when it is free, destroy it when
    it was used by somebody who is gone, and give its student another when it is gone itself."""
    place = PoolMachine.objects.select_related("lab_class", "machine").filter(machine=machine_pk).first()
    if place is None or not _needs_settling(place):
        return
    lab_class = place.lab_class
    with transaction.atomic():
        lock(lab_class)
        place = PoolMachine.objects.select_related("lab_class", "machine").get(pk=place.pk)
        gone = place.machine.state == State.DESTROYED
        if gone and place.retired_at is None:
            retire(place, acting_user=None)
        elif place.is_spent and not gone and not _destroy_failed(place.machine):
            _destroy(place, acting_user=None)
        fill_waiting_list(lab_class, acting_user=None)
        publish(topic(lab_class))


def mend() -> int:
    """Do what `settle` did not come to, as its process died between a machine's move and that.
    For `machines.services.sweep.SWEEPS`. Returns how many machines it looked at."""
    unsettled = selectors.unsettled(_MENDED_AT_ONCE)
    for machine_pk in unsettled:
        settle(machine_pk)
    return len(unsettled)


def _needs_settling(place: PoolMachine) -> bool:
    """Looked at without the lock, as it is asked for every machine that comes to rest."""
    if place.machine.state == State.DESTROYED:
        return place.retired_at is None
    return place.is_spent or (place.enrolment_id is None and selectors.waiting(place.lab_class).exists())


# -- what they are made of ---------------------------------------------------------------------


def _check_room(lab_class: LabClass, count: int) -> None:
    most = settings.CLASS_MAX_MACHINES
    wanted = lab_class.pool.exclude(machine__state=State.DESTROYED).count() + count
    if most and wanted > most:
        message = _("%(class)s would have %(count)d machines, those being deleted included, and a class has at most %(most)d. Add fewer, or delete some first.")
        raise Refused(message % {"class": lab_class, "count": wanted, "most": most}, code="too_many")


def _make(lab_class: LabClass, count: int, *, acting_user: User, batch: Batch, priority: int) -> None:
    highest = lab_class.pool.aggregate(highest=Max("number"))["highest"] or 0
    with transaction.atomic():
        for number in range(highest + 1, highest + count + 1):
            machine = requests.create_machine(
                acting_user=acting_user,
                template=lab_class.template,
                name=f"{lab_class.slug}-{number:02d}",
                cores=lab_class.cores,
                memory_mib=lab_class.memory_mib,
                disk_gib=lab_class.disk_gib,
                batch=batch,
                priority=priority,
            )
            PoolMachine.objects.create(lab_class=lab_class, machine=machine, number=number, batch=batch)


def _assign(place: PoolMachine, enrolment: Enrolment, *, acting_user: User | None) -> None:
    place.enrolment, place.assigned_at = enrolment, timezone.now()
    place.save(update_fields=["enrolment", "assigned_at"])
    machine = place.machine
    machine.owner = enrolment.student
    Machine.objects.filter(pk=machine.pk).update(owner=machine.owner)
    audit.record("pool.assign", acting_user=acting_user, target=machine, student=enrolment.student.get_username())
    publish(*machine_topics(machine))


def _destroy(place: PoolMachine, *, acting_user: User | None, batch: Batch | None = None, priority: int = Priority.REFILL) -> None:
    if place.machine.state == State.DESTROYED:
        return
    try:
        requests.destroy(place.machine, acting_user=acting_user, batch=batch, priority=priority)
    except Refused as refused:
        if refused.code != "busy":
            raise
        # A worker has it in hand. `settle` destroys it when that has ended.


def _destroy_failed(machine: Machine) -> bool:
    """The cluster did not manage it: somebody must look, trying for ever helps nobody."""
    last = machine.operations.order_by("-id").first()
    return last is not None and last.kind == Kind.DESTROY and last.state == OperationState.FAILED


def _current(lab_class: LabClass, places: Sequence[PoolMachine]) -> list[PoolMachine]:
    """Those of `places` that are in the pool now, read under the lock, in the order machines are locked in."""
    found = selectors.current_places(lab_class).filter(pk__in=[place.pk for place in places])
    return list(found.select_related("machine", "enrolment__student").order_by("machine"))
