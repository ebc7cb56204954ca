"""What is done for each kind of operation: steps that look, decide, act and say so.

Every step may be run again at any point, after a crash between any two of its lines: it begins
by looking at the machine, does only what is still missing, and is done when it has *seen* that
it is. `Done`, `Wait` and `Again` tell the executor how to go on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.translation import gettext as _

from machines.lifecycle import Event, Kind, State
from machines.models import Machine, Operation
from machines.providers.errors import Busy, ForeignMachine, Incomplete, InvalidSpec, OutcomeUnknown, ProviderError, Unseen
from machines.providers.types import Power, Presence, Sighting, Stage, StopMode, TaskRef

from . import gateway, refs
from .work import Again, Done, Outcome, Vanished, Wait, Work

MOST_BURNED = 5  # refs found taken by strangers before a person has to look


@dataclass(frozen=True, slots=True)
class Step:
    run: Callable[[Work], Outcome]
    slot: str  # the limit it counts against, see machines.selectors.load; "" for none
    seconds: int  # it fails when it has not been seen done by then


def ensure_created(work: Work) -> Outcome:
    machine = work.machine
    if machine.adopted:
        raise InvalidSpec("adopted", message=_("This machine was there before the portal, which cannot make it anew."))
    new = machine.state == State.PENDING and not machine.ref
    if machine.state == State.PENDING:
        # Before the call: after a crash we know where to look.
        work.commit(event=Event.BEGIN, machine={"ref": machine.ref or refs.take(machine), **gateway.new_seed(machine)})
    # What is there and cannot be seen may be ours, unless nothing was ever asked of the cluster under this ref.
    unasked = work.checkpoint.pop("unasked", "") == machine.ref
    try:
        return _make(work, new=new, unasked=unasked)
    except ForeignMachine:
        return _burn_ref(work)
    except Unseen as error:
        if new or unasked:
            return _burn_ref(work)
        message = _("The number of this machine on the cluster is in use by what the portal's account may not see. It may be this machine.")
        raise Busy(error.detail, message=message) from error


def _make(work: Work, *, new: bool, unasked: bool) -> Outcome:
    """Raises ForeignMachine, Unseen."""
    machine = work.machine
    seen = Sighting(Presence.ABSENT) if new else work.look()  # what was chosen this moment is asked after by the creating call
    match seen:
        case Sighting(presence=Presence.FOREIGN):
            raise ForeignMachine(seen.detail)
        case Sighting(presence=Presence.OURS, stage=Stage.BUILDING):
            work.say(_("The cluster is still making the machine."))
            return Again(1)
        case Sighting(presence=Presence.OURS, stage=Stage.BROKEN):
            work.say(_("What was half made is removed, to make it again."), "warning")
            work.task_error = None  # it told how the half came about
            return work.act("clean", lambda: work.provider.begin_destroy(work.identity, machine.ref))
        case Sighting(presence=Presence.OURS):
            work.say(_("The machine is there."))
            return Done(machine={} if machine.made_at else {"made_at": timezone.now()})
    work.say(_("Making the machine from “%(template)s”.") % {"template": machine.template})
    if machine.made_at or machine.ssh_host_key:  # the one that was there is gone; the new one has a host key of its own
        work.commit(machine={"ssh_host_key": "", "made_at": None, **gateway.new_seed(machine)})
    elif unasked:
        work.commit()  # before the call: from here on it may have been asked
    try:
        return work.act("create", lambda: work.provider.begin_create(work.identity, machine.ref, gateway.spec(machine)))
    except OutcomeUnknown:
        raise
    except ProviderError:
        if new or unasked:
            work.checkpoint["unasked"] = machine.ref
        raise


def _burn_ref(work: Work) -> Outcome:
    """Something of somebody else sits at our ref. It is left alone; the ref is never used again."""
    burned = [*work.checkpoint.get("burned", []), work.machine.ref]
    if len(burned) > MOST_BURNED:
        raise ForeignMachine(f"refs taken by others: {', '.join(burned)}")
    work.checkpoint["burned"] = burned
    work.say(_("Something that is not ours is in the machine's place. It is left alone and another place taken."), "warning")
    work.checkpoint["unasked"] = ref = refs.take(work.machine)
    work.commit(machine={"ref": ref, "made_at": None})
    return Again()


def ensure_configured(work: Work) -> Outcome:
    if work.look_at_ours().power is Power.ON:  # one found running was configured before
        return Done()
    if work.task_error is not None:
        raise work.task_error
    work.still_ours()
    task = work.provider.ensure_configured(work.identity, work.machine.ref, gateway.spec(work.machine))
    return Wait([task]) if task else Done()


def ensure_on(work: Work) -> Outcome:
    if _ready(work).power is Power.ON:
        work.say(_("It is on."))
        return Done()
    if task := _seed_anew(work):
        return Wait([task])
    work.say(_("Switching it on."))
    return work.act("start", lambda: work.provider.begin_start(work.identity, work.machine.ref))


def _seed_anew(work: Work) -> TaskRef | None:
    """Before its first boot a guest is told of the person who has it by now, and of their keys."""
    machine = work.machine
    if machine.seed_read or not machine.username or (told := gateway.told_of_person(machine)) == machine.seeded_with:
        return None
    machine.seeded_with = told
    work.still_ours()
    if task := work.provider.ensure_configured(work.identity, machine.ref, gateway.spec(machine)):
        return task
    work.commit(machine={"seeded_with": told})
    return None


def ensure_off_gracefully(work: Work) -> Outcome:
    """The power button, pressed again when the cluster forgot about it; force after the deadline."""
    if work.look_at_ours().power is Power.OFF:
        work.say(_("It is off."))
        return Done()
    now, seconds = timezone.now(), work.machine.cluster.stop_deadline
    deadline = datetime.fromisoformat(work.checkpoint["deadline"]) if "deadline" in work.checkpoint else now + timedelta(seconds=seconds)
    if work.params.get("force"):
        return _pull_the_plug(work)
    if now >= deadline:
        work.say(_("The guest did not shut down within %(seconds)d s. It is switched off by force.") % {"seconds": seconds}, "warning")
        return _pull_the_plug(work)
    soon = min(deadline, now + timedelta(seconds=2))
    if work.task_error is not None or work.task_lost:
        return Wait([], until=soon, costs=False)  # the guest has until the deadline all the same
    work.checkpoint["deadline"] = deadline.isoformat()
    work.say(_("Asking the guest to shut down; after %(seconds)d s it is switched off by force.") % {"seconds": seconds})
    work.still_ours()
    if task := work.provider.begin_stop(work.identity, work.machine.ref, StopMode.GRACEFUL):
        return Wait([task], until=deadline, costs=False)
    return Done() if work.look().power is Power.OFF else Wait([], until=soon, costs=False)


def ensure_off(work: Work) -> Outcome:
    if work.look_at_ours().power is Power.OFF:
        work.say(_("It is off."))
        return Done()
    work.say(_("Switching it off by force."))
    return _pull_the_plug(work)


def _pull_the_plug(work: Work) -> Outcome:
    return work.act("force", lambda: work.provider.begin_stop(work.identity, work.machine.ref, StopMode.FORCE))


def ensure_restarted(work: Work) -> Outcome:
    seen = _ready(work)
    if seen.power is not Power.ON:  # it went off by itself: switching it on restarts it as well
        work.say(_("It was off. Switching it on."))
        started = work.act("start", lambda: work.provider.begin_start(work.identity, work.machine.ref))
        work.checkpoint["reboot"] = True
        return started
    if outcome := work.once("reboot", lambda: work.provider.begin_reboot(work.identity, work.machine.ref)):
        work.say(_("Restarting it."))
        return outcome
    work.say(_("It is on again."))
    return Done()


def ensure_reverted(work: Work) -> Outcome:
    machine, snapshot = work.machine, work.params.get("snapshot", "")
    if machine.adopted and not snapshot:
        raise InvalidSpec("adopted", message=_("This machine was there before the portal, which does not know how it was made."))
    if _was_removed(work):
        return ensure_created(work)
    if _ready(work).power is Power.ON:
        work.say(_("Switching it off: what is in its memory is thrown away as well."))
        return _pull_the_plug(work)
    if not snapshot:
        work.say(_("Bringing the disk back to how it was made."))
        if "reverting" not in work.checkpoint:
            work.checkpoint["reverting"] = True
            work.commit()  # before the call: one that is gone afterwards was not lost
    else:
        work.say(_("Bringing the disk back to the snapshot “%(name)s”.") % {"name": snapshot})
    if outcome := work.once("reverted", lambda: work.provider.begin_revert(work.identity, machine.ref, gateway.spec(machine), snapshot)):
        return outcome
    if not snapshot:  # the guest's first boot is ahead of it again, with a new host key
        return Done(machine={"ssh_host_key": "", **gateway.new_seed(machine)})
    kept = machine.snapshots.filter(name=snapshot).first()
    return Done(machine={"ssh_host_key": kept.ssh_host_key, "seeded_with": kept.seeded_with} if kept else {"ssh_host_key": ""})


def _was_removed(work: Work) -> bool:
    """Whether this revert has removed the machine, because nothing was kept of its beginning. From then on it only has to be made."""
    if "removed" not in work.checkpoint and "reverting" in work.checkpoint and work.look().presence is Presence.ABSENT:
        work.task_error = None  # it told of the old one
        work.checkpoint["removed"] = True
        work.commit(machine={"ssh_host_key": "", "made_at": None, **gateway.new_seed(work.machine)})
    return "removed" in work.checkpoint


def ensure_snapshot(work: Work) -> Outcome:
    name = work.params["snapshot"]
    _ready(work)
    there, before = any(kept.name == name for kept in work.provider.snapshots(work.identity, work.machine.ref)), "absent" in work.checkpoint
    if there and not before:  # an older state than the one that is asked for: somebody else's, or of an operation that was cancelled half way
        message = _("The cluster has a snapshot “%(name)s” of this machine already, which the portal did not make. Choose another name.")
        raise InvalidSpec(f"snapshot {name} is there already", message=message % {"name": name})
    if there:
        work.say(_("The snapshot “%(name)s” is kept.") % {"name": name})
        return Done()
    if not before:
        work.checkpoint["absent"] = True
        work.commit()
    work.say(_("Taking the snapshot “%(name)s”.") % {"name": name})
    return work.act("snapshot", lambda: work.provider.begin_snapshot(work.identity, work.machine.ref, name))


def ensure_no_snapshot(work: Work) -> Outcome:
    name = work.params["snapshot"]
    _ready(work)
    if all(kept.name != name for kept in work.provider.snapshots(work.identity, work.machine.ref)):
        work.say(_("The snapshot “%(name)s” is gone.") % {"name": name})
        return Done()
    work.say(_("Deleting the snapshot “%(name)s”.") % {"name": name})
    return work.act("unsnapshot", lambda: work.provider.begin_delete_snapshot(work.identity, work.machine.ref, name))


def ensure_resized(work: Work) -> Outcome:
    machine = work.machine
    _may_be_destroyed(machine)
    if _ready(work).power is Power.ON:
        raise InvalidSpec("it is on", message=_("The machine was switched on meanwhile. Shut it down first."))
    sizes = {name: work.params[name] for name in ("cores", "memory_mib")}
    sizes["disk_gib"] = work.params["disk_gib"] or machine.disk_gib
    for column, value in sizes.items():
        setattr(machine, column, value)
    work.say(_("Changing its size."))
    if outcome := work.once("resized", lambda: work.provider.begin_resize(work.identity, machine.ref, gateway.spec(machine))):
        return outcome
    return Done(machine=sizes)


def ensure_destroyed(work: Work) -> Outcome:
    machine = work.machine
    if not machine.ref:
        work.say(_("Nothing had been made yet."))
        return Done()
    seen = work.look()
    if seen.presence is Presence.ABSENT:
        work.say(_("The machine is gone."))
        return Done()
    if seen.presence is Presence.FOREIGN:
        work.say(_("The machine is gone; what is in its place is not ours and is left alone."), "warning")
        return Done()
    machine.refresh_from_db(fields=["adopted", "may_destroy"])
    _may_be_destroyed(machine)
    work.say(_("Removing the machine with its disks."))
    return work.act("destroy", lambda: work.provider.begin_destroy(work.identity, machine.ref))


def ensure_adopted(work: Work) -> Outcome:
    machine, before = work.machine, work.machine.made_at is not None
    if machine.state == State.PENDING:
        work.commit(event=Event.BEGIN)
    seen = work.look()
    if seen.presence is Presence.ABSENT:
        raise Vanished
    if seen.presence is Presence.OURS:
        work.say(_("The machine carries the portal's label."))
        return Done(machine={} if before else {"made_at": timezone.now()})
    if before:  # it lost our label, or another took its number: staff have to look which
        raise ForeignMachine(seen.detail)
    work.say(_("Writing the portal's label to the machine."))
    return work.act("adopt", lambda: work.provider.adopt(work.identity, machine.ref, work.params["guest"]))


def ensure_released(work: Work) -> Outcome:
    if work.look().presence is not Presence.OURS:
        work.say(_("The machine does not carry the portal's label. It stays as it is."))
        return Done()
    work.say(_("Taking the portal's label off the machine. It stays as it is."))
    return work.act("release", lambda: work.provider.release(work.identity, work.machine.ref))


def _may_be_destroyed(machine: Machine) -> None:
    """Asked again at the deed, whatever was asked before. Raises InvalidSpec."""
    if machine.adopted and not machine.may_destroy:
        raise InvalidSpec("adopted", message=_("This machine was there before the portal. Staff have not allowed to change or delete it."))


def _ready(work: Work) -> Sighting:
    """Our machine, whole. Raises Vanished, ForeignMachine, Busy, Incomplete."""
    seen = work.look_at_ours()
    if seen.stage is Stage.BUILDING:
        raise Busy("still building")
    if seen.stage is Stage.BROKEN:
        raise Incomplete(seen.detail)
    return seen


_ON = Step(ensure_on, "boot", 300)
_PLANS: dict[Kind, tuple[Step, ...]] = {
    Kind.PROVISION: (Step(ensure_created, "create", 1800), Step(ensure_configured, "", 300)),
    Kind.START: (_ON,),
    Kind.STOP: (Step(ensure_off_gracefully, "power", 1800),),
    Kind.FORCE_OFF: (Step(ensure_off, "power", 300),),
    Kind.RESTART: (Step(ensure_restarted, "boot", 300),),
    Kind.REVERT: (Step(ensure_reverted, "create", 1800), Step(ensure_configured, "", 300)),  # snapshots may keep sizes too
    Kind.SNAPSHOT: (Step(ensure_snapshot, "create", 600),),
    Kind.DELETE_SNAPSHOT: (Step(ensure_no_snapshot, "create", 1800),),
    Kind.RESIZE: (Step(ensure_resized, "create", 600),),
    Kind.DESTROY: (Step(ensure_destroyed, "create", 600),),
    Kind.ADOPT: (Step(ensure_adopted, "create", 300),),
    Kind.RELEASE: (Step(ensure_released, "create", 300),),
}


def plan(operation: Operation) -> tuple[Step, ...]:
    """The steps of an operation; the same for all its life."""
    steps = _PLANS[Kind(operation.kind)]
    if operation.kind == Kind.REVERT and operation.machine.adopted:
        steps = steps[:1]  # its settings are its own
    if operation.kind in (Kind.PROVISION, Kind.REVERT) and operation.params.get("start"):
        steps = (*steps, _ON)
    return steps


def first_slot(kind: Kind) -> str:
    return _PLANS[kind][0].slot
