"""Running operations, slice by slice. A slice is what one worker does before it lets go."""

import logging
import random
import time
import traceback
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import Subquery
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.services import audit
from machines.lifecycle import Event, Kind, can
from machines.models import Machine, Operation, OperationState
from machines.providers.errors import ForeignMachine, OutcomeUnknown, Overloaded, ProviderError, TaskFailed, Transient
from machines.providers.types import Power

from . import dispatch, easing, leases, refs, steps, transitions
from .work import Again, Done, Vanished, Wait, Work

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10
BATCH = 8
QUICK_SECONDS = 0.05  # for one slice, its writing included
BATCH_SECONDS = 0.5
# How long an operation goes on trying against a cluster that does not answer or is full.
TROUBLE_SECONDS = 600
LONGEST_BACK_OFF = 30
# Kinds whose failure leaves the machine as it was, so that it stays usable.
_HARMLESS = frozenset({Kind.SNAPSHOT, Kind.DELETE_SNAPSHOT, Kind.RESIZE})


def drain(seconds: float = DRAIN_SECONDS) -> int:
    """Run what is due until nothing may run or `seconds` passed; then ring for what is left.
    Returns how many slices it ran."""
    end, count, most = time.monotonic() + seconds, 0, 1
    while operations := leases.claim(most):
        began, ran = time.monotonic(), run_batch(operations)
        now, count = time.monotonic(), count + ran
        # Where a slice takes its time, the places that others of the batch would hold are better left to other workers.
        most = min(BATCH, 2 * most) if now - began < ran * QUICK_SECONDS else 1
        if now >= end:
            dispatch.ring_if_due()
            break
    return count


def run_batch(operations: list[Operation]) -> int:
    """A slice of each of `operations`, written down together: on a busy database the number of
    transactions counts. Where the first ones take their time, the others are given back.
    Returns how many it ran."""
    end, works = time.monotonic() + BATCH_SECONDS, []
    for number, operation in enumerate(operations):
        if number and time.monotonic() >= end:
            leases.give_back(operations[number:])
            break
        works.append(run(operation))
    write_down(works)
    return len(works)


def run(operation: Operation) -> Work:
    """One slice of an operation the caller holds the lease of, up to what `write_down` writes.
    Whatever happens comes to the row; only a database that fails leaves it to the sweep, like a
    worker that died."""
    work = Work(operation)
    try:
        _proceed(work)
    except (Transient, OutcomeUnknown) as error:
        _back_off(work, error)
    except Vanished:
        fail(work, _("The cluster has no such machine any more."), code="missing", event=Event.VANISH)
    except ProviderError as error:
        fail(work, error.message, code=error.code, detail=error.detail)
    except leases.LeaseLost:
        log.warning("operation %s: another worker has it now", operation.key)
    except DatabaseError:
        raise
    except Exception:
        log.exception("operation %s: unexpected", operation.key)
        _fail_internal(work)
    return work


def write_down(works: Iterable[Work]) -> None:
    """Write how the slices ended, in one transaction; each stands and falls by itself."""
    works = list(works)
    with transaction.atomic():
        transitions.lock(work.machine.pk for work in works)
        for work in works:
            try:
                try:
                    with transaction.atomic():
                        work.write_down()
                except (leases.LeaseLost, DatabaseError):
                    raise
                except Exception:
                    log.exception("operation %s: unexpected", work.operation.key)
                    _fail_internal(work)
                    with transaction.atomic():
                        work.write_down()
            except leases.LeaseLost:
                log.warning("operation %s: another worker has it now", work.operation.key)


def _proceed(work: Work) -> None:
    work.open()
    operation = work.operation
    plan = steps.plan(operation)
    enough = time.monotonic() + max(1, settings.SLICE_SECONDS - settings.PROVIDER_CALL_SECONDS)
    while True:
        step = plan[operation.step]
        outcome = step.run(work)
        now = timezone.now()
        if work.checkpoint.pop("trouble", None):
            work.checkpoint.pop("began", None)  # what went by in back-offs is not the step's time
        limit = datetime.fromisoformat(work.checkpoint.setdefault("began", now.isoformat())) + timedelta(seconds=step.seconds)
        match outcome:
            case Done(machine=columns):
                work.checkpoint = {name: value for name, value in work.checkpoint.items() if name == "burned"}
                if operation.step + 1 == len(plan):
                    _succeed(work, columns)
                    return
                following, progress = plan[operation.step + 1], (operation.step + 1) / len(plan)
                if following.slot and not leases.move(operation, following.slot):  # it has to be let in first
                    work.release(slot=following.slot, step=operation.step + 1, progress=progress, code="", machine=columns)
                    return
                work.commit(step=operation.step + 1, progress=progress, code="", machine=columns)
            case _ if now > limit:
                raise TaskFailed(f"not seen done after {step.seconds} s", message=_("The cluster did not finish this in time."))
            case Wait():
                _park(work, step, outcome, limit=limit)
                return
            case Again(seconds=0) if time.monotonic() < enough:
                pass
            case Again(seconds=seconds):
                work.release(slot="", after=seconds, code="")
                return


def _park(work: Work, step: steps.Step, outcome: Wait, *, limit: datetime) -> None:
    until = min(outcome.until, limit) if outcome.until else limit
    work.checkpoint |= {"tasks": [task.to_json() for task in outcome.tasks], "until": until.isoformat()}
    slot = step.slot if outcome.costs else ""
    work.close(state=OperationState.WAITING, slot=slot, lease="", lease_until=None, attempt=0, code="")


def _back_off(work: Work, error: ProviderError) -> None:
    """Nothing is concluded; try again a little later, and less and less often."""
    now = timezone.now()
    trouble: dict[str, Any] = work.checkpoint.setdefault("trouble", {"since": now.isoformat(), "count": 0})
    if now - datetime.fromisoformat(trouble["since"]) > timedelta(seconds=TROUBLE_SECONDS):
        fail(work, error.message, code=error.code, detail=error.detail)
        return
    delay = min(LONGEST_BACK_OFF, 2 ** trouble["count"]) * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, hides nothing
    trouble["count"] += 1
    plan = steps.plan(work.operation)
    if isinstance(error, OutcomeUnknown):
        work.say(_("%(problem)s Looking what became of it.") % {"problem": error.message}, "warning")
        slot = ""
    else:
        if work.operation.code != error.code:
            work.say(error.message, "warning")
        work.operation.message = _("%(problem)s Trying again in %(seconds)d s.") % {"problem": error.message, "seconds": round(delay) or 1}
        slot = plan[work.operation.step].slot
        if isinstance(error, Overloaded):
            easing.ease(work.machine.cluster, slot)
    work.release(slot=slot, after=delay, code=error.code, detail=error.detail)


def _succeed(work: Work, columns: dict[str, Any]) -> None:
    """The last step saw what was asked for: the machine settles as it was seen."""
    operation, snapshots, ref = work.operation, work.machine.snapshots, work.machine.ref
    also: Callable[[], object] | None = None
    match Kind(operation.kind):
        case Kind.DESTROY | Kind.RELEASE:
            secrets = dict.fromkeys(("password", "ssh_private_key", "ssh_public_key", "ssh_host_key"), "")
            columns = {**columns, **secrets, "ref": "", "endpoints": [], "power": "unknown"}

            def also() -> None:
                snapshots.all().delete()
                refs.burn(work.machine.cluster, ref)
                if work.machine.adopted:
                    refs.forget_adopted(work.machine.cluster, ref)

        case Kind.SNAPSHOT:
            kept = {name: Subquery(Machine.objects.filter(pk=work.machine.pk).values(name)[:1]) for name in ("ssh_host_key", "seeded_with")}
            also = partial(snapshots.filter(name=operation.params["snapshot"]).update, ready=True, **kept)
        case Kind.DELETE_SNAPSHOT:
            also = snapshots.filter(name=operation.params["snapshot"]).delete
    if operation.kind in (Kind.DESTROY, Kind.RELEASE):
        event = Event.GONE
    else:
        assert work.seen is not None, "no step ends without having looked"
        event = Event.SETTLED_ON if work.seen.power is Power.ON else Event.SETTLED_OFF
        columns = {**columns, "keeps_snapshots": work.seen.snapshots}
    _end(work, OperationState.SUCCEEDED, event=event, machine=columns, also=also, progress=1, code="", detail="")


def fail(work: Work, message: str, *, code: str, detail: str = "", event: Event = Event.FAIL) -> None:
    """End an operation that cannot succeed: the machine needs attention, and `message` says why."""
    operation, machine = work.operation, work.machine
    work.say(message, "error")
    problem = {"problem": message, "problem_code": code}
    power = work.seen.power if work.seen is not None else machine.power
    if operation.kind in _HARMLESS and event is Event.FAIL and code != ForeignMachine.code and power in (Power.ON, Power.OFF):
        event, problem = Event.SETTLED_ON if power == Power.ON else Event.SETTLED_OFF, {}
    half_taken = machine.snapshots.filter(name=operation.params["snapshot"], ready=False) if operation.kind == Kind.SNAPSHOT else None
    _end(
        work,
        OperationState.FAILED,
        event=event if can(machine.state, event) else None,
        also=half_taken.delete if half_taken is not None else None,
        code=code,
        detail=detail,
        **problem,
    )


def _end(work: Work, state: OperationState, *, also: Callable[[], object] | None, code: str, **columns: Any) -> None:
    operation, machine = work.operation, work.machine

    def write_more() -> None:
        if also is not None:
            also()
        outcome = "ok" if state is OperationState.SUCCEEDED else "failed"
        audit.record(f"operation.{state}", acting_user=None, target=machine, outcome=outcome, operation=str(operation.key), kind=operation.kind, code=code)

    work.close(state=state, finished_at=timezone.now(), lease="", lease_until=None, also=write_more, code=code, **columns)


def _fail_internal(work: Work) -> None:
    work.machine.refresh_from_db(fields=["state"])  # what was written in vain is still in memory
    message = _("The portal made an error of its own. The machine was left as it is; staff find the details at this operation.")
    fail(work, message, code="internal", detail=traceback.format_exc())
