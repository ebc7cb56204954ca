"""Putting right what a crash left: every few seconds, a few rows each, each looked at again
under its lock. Any number of processes may sweep at once."""

import logging
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.services import retention, signing_in
from machines.lifecycle import MOVING, Event
from machines.models import ACTIVE, Change, Machine, Operation, OperationEvent, OperationState

from . import dispatch, executor, leases, refs, transitions
from .feed import operation_topics, publish
from .work import Work

log = logging.getLogger(__name__)

AT_ONCE = 50
CHANGES_KEPT = timedelta(hours=1)
# A mismatch younger than this may be a transaction of somebody else that we see half of.
SETTLED = timedelta(seconds=30)

# Others put right what a crash left of theirs, and do what is due.
SWEEPS: list[Callable[[], object]] = []


def sweep() -> None:
    resume_abandoned()
    mend_mismatches()
    for mend in SWEEPS:
        mend()
    dispatch.ring_if_due()


def resume_abandoned() -> int:
    """Give operations whose worker disappeared to another one, or end those that were tried
    often enough. Returns how many it found."""
    running = Operation.objects.filter(state=OperationState.RUNNING)
    orphans = [pk for pk, lease in running.values_list("pk", "lease") if leases.is_orphan(lease)]
    abandoned = running.filter(Q(lease_until__lt=timezone.now()) | Q(pk__in=orphans)).select_related("machine__cluster", "batch")
    found = 0
    for operation in abandoned.order_by("pk")[:AT_ONCE]:
        if not leases.take_over(operation):
            continue
        found += 1
        work = Work(operation)
        if operation.attempt >= settings.OPERATION_ATTEMPTS:
            message = _("This was tried %(times)d times and its worker disappeared each time.") % {"times": operation.attempt}
            executor.fail(work, message, code="worker_lost", detail="no attempt gave the operation back before its lease ended")
        else:
            work.say(_("The worker at this disappeared. Another one goes on."), "warning")
            work.release(slot=operation.slot, attempt=operation.attempt)
        executor.write_down([work])
    if found:
        dispatch.ring_if_due()
    return found


def mend_mismatches() -> int:
    """A machine is in a moving state if and only if it has an active operation. Where that is
    not so, the one is failed for want of the other. Returns how many it mended."""
    before, mended = timezone.now() - SETTLED, 0
    active = Operation.objects.filter(state__in=ACTIVE)
    lonely = Machine.objects.filter(state__in=MOVING, state_since__lt=before).exclude(pk__in=active.values("machine"))
    for pk in lonely.values_list("pk", flat=True)[:AT_ONCE]:
        with transaction.atomic():
            machine = Machine.objects.select_for_update(of=("self",)).get(pk=pk)
            if machine.is_moving and not machine.operations.filter(state__in=ACTIVE).exists():
                log.error("machine %s is %s without an operation", machine.key, machine.state)
                transitions.apply(machine, Event.FAIL, problem=_("The work on this machine was lost. Try again."), code="operation_lost")
                mended += 1
    idle = active.filter(created_at__lt=before, machine__state_since__lt=before).exclude(machine__state__in=MOVING)
    for operation in idle.select_related("machine")[:AT_ONCE]:
        with transaction.atomic():
            machine = Machine.objects.select_for_update(of=("self",)).get(pk=operation.machine_id)
            if machine.is_moving:
                continue
            log.error("operation %s is active while its machine is %s", operation.key, machine.state)
            message = _("The machine was settled while this was at work.")
            ended = Operation.objects.filter(pk=operation.pk, state__in=ACTIVE).update(
                state=OperationState.FAILED, finished_at=timezone.now(), lease="", lease_until=None, message=message, code="inconsistent"
            )
            if not ended:  # another sweep was quicker
                continue
            mended += 1
            OperationEvent.objects.create(operation=operation, text=message, level="error")
            publish(*operation_topics(operation))
    return mended


def trim() -> None:
    """Forget what nobody reads any more."""
    Change.objects.filter(at__lt=timezone.now() - CHANGES_KEPT).delete()
    signing_in.forget_expired()
    retention.forget()
    refs.trim()
