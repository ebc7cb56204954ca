"""Until when machines that were asked for may be on: a reminder before, shut down afterwards."""

from datetime import date, timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.services import audit
from machines.lifecycle import State
from machines.models import MachineRequest, OperationEvent, Priority, RequestState

from . import approvals, outbox, requests
from .feed import machine_topics, publish
from .refusal import Refused

REMINDED_BEFORE = timedelta(days=7)
_AT_ONCE = 20


def set_until(request: MachineRequest, until: date, *, acting_user: User) -> None:
    """Another last day. Who is given more time is reminded again; a machine that was shut down
    may be started again."""
    with transaction.atomic():
        approvals.lock(request)
        if request.until == until:
            return
        audit.record("request.until", acting_user=acting_user, target=request, before=request.until.isoformat(), until=until.isoformat())
        request.until, request.reminded_at, request.ended_at = until, None, None
        request.save(update_fields=["until", "reminded_at", "ended_at"])
        publish(f"owner:{request.requester_id}", *(machine_topics(request.machine) if request.machine else ()))


def remind() -> int:
    """Tell people whose machine has a week left. For `sweep.SWEEPS`. Returns how many were told."""
    today = timezone.localdate()
    due = MachineRequest.objects.filter(state=RequestState.READY, reminded_at=None, until__gte=today, until__lte=today + REMINDED_BEFORE)
    told = 0
    for request in due.exclude(machine=None).exclude(machine__state=State.DESTROYED).order_by("pk")[:_AT_ONCE]:
        with transaction.atomic():
            approvals.lock(request)
            if request.reminded_at is not None or request.machine is None:
                continue
            request.reminded_at = timezone.now()
            request.save(update_fields=["reminded_at"])
            if request.until - timezone.localdate(request.decided_at) > REMINDED_BEFORE:  # else the last mail has just said so
                outbox.post(request, "ending")
            told += 1
    return told


def shut_down_over() -> int:
    """Shut down machines that are on after their last day. For `sweep.SWEEPS`. Returns how many."""
    over = MachineRequest.objects.filter(state=RequestState.READY, until__lt=timezone.localdate(), machine__state=State.RUNNING)
    ended = 0
    for request in over.order_by("pk")[:_AT_ONCE]:
        with transaction.atomic():
            approvals.lock(request)
            if not request.is_over or request.machine is None:
                continue
            try:
                stopping = requests.stop(request.machine, acting_user=None, priority=Priority.BULK)
            except Refused:  # something else is being done to it: the next sweep comes soon
                continue
            OperationEvent.objects.create(operation=stopping, text=_("The time of this machine is over: its last day has passed."))
            ended += 1
            if request.ended_at is None:
                request.ended_at = timezone.now()
                request.save(update_fields=["ended_at"])
                audit.record("request.ended", acting_user=None, target=request)
                outbox.post(request, "ended")
    return ended
