"""Requests for machines: asked by a person, decided by staff, followed until the machine is there.

A decision is one short transaction that writes the request and asks the engine
(`services.requests`); workers do the rest. The request's row is locked before its machine, so what
a machine tells is taken up after the transaction of its move. All raise `Refused`.
"""

from datetime import date, timedelta
from functools import partial
from uuid import UUID

from django.db import transaction
from django.db.models import Max, Q
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.services import audit
from machines.lifecycle import STABLE, Event, Kind, State, can
from machines.models import OPEN, Machine, MachineRequest, RequestState, Template, Tier
from machines.policies import offered_templates, tiers_of

from . import outbox, quotas, requests
from .feed import publish
from .refusal import Refused

OPEN_AT_ONCE = 3  # requests of one person
DEFAULT_DAYS, LONGEST_DAYS = 90, 365
LONGEST_REASON, LONGEST_ANSWER = 1000, 500
_MENDED_AT_ONCE = 20
_NAME_LENGTH = 50  # a number follows; a host's name has 63


def ask(user: User, *, template: Template, tier: Tier, reason: str, until: date | None, token: UUID) -> MachineRequest:
    """A new request. `token` is the form's: sent again, it is the request it made before.
    `until` is the last day, by default `DEFAULT_DAYS` from now."""
    today, reason = timezone.localdate(), reason.strip()
    until = until or today + timedelta(days=DEFAULT_DAYS)
    with transaction.atomic():
        user = quotas.hold(user)  # one at a time, so that numbers and limits hold
        if (known := asked_before(user, token)) is not None:
            return known
        mine = MachineRequest.objects.filter(requester=user)
        if not 0 < len(reason) <= LONGEST_REASON:
            raise Refused(_("Say in a few words what the machine is for, at most %(most)d characters.") % {"most": LONGEST_REASON}, code="reason")
        if not today <= until <= today + timedelta(days=LONGEST_DAYS):
            raise Refused(_("Choose a last day from today on, at most %(days)d days from now.") % {"days": LONGEST_DAYS}, code="until")
        if not offered_templates(user).filter(pk=template.pk).exists():
            raise Refused(_("“%(template)s” is not offered any more. Choose another template.") % {"template": template}, code="template_gone")
        if not tiers_of(template).filter(pk=tier.pk).exists():
            raise Refused(_("“%(template)s” is not offered in the size %(tier)s.") % {"template": template, "tier": tier}, code="tier_gone")
        if mine.filter(state__in=OPEN).count() >= OPEN_AT_ONCE:
            raise Refused(
                _("You have %(count)d open requests, which is as many as one person may have. Wait for one to be decided, or withdraw one.")
                % {"count": OPEN_AT_ONCE},
                code="too_many",
            )
        quotas.check(user, acting_user=user, cores=tier.cores, memory_mib=tier.memory_mib)
        number = (mine.aggregate(highest=Max("number"))["highest"] or 0) + 1
        request = MachineRequest.objects.create(requester=user, number=number, token=token, template=template, tier=tier, reason=reason, until=until)
        audit.record("request.ask", acting_user=user, target=request, template=template.name, tier=tier.name, until=until.isoformat())
        _tell(request)
    return request


def asked_before(user: User, token: UUID) -> MachineRequest | None:
    """The request that was made with this token, whatever is offered now."""
    return MachineRequest.objects.filter(requester=user, token=token).first()


def withdraw(request: MachineRequest, *, acting_user: User) -> None:
    """Take back a request that is not decided, or that could not be met. Withdrawn already: nothing changes."""
    with transaction.atomic():
        lock(request)
        if request.state == RequestState.WITHDRAWN:
            return
        if not request.can_be_decided:
            raise Refused(_("This request was decided meanwhile: it is “%(state)s”.") % {"state": request.get_state_display()}, code="decided")
        _discard(request, acting_user=acting_user)
        _write(request, state=RequestState.WITHDRAWN, decided_at=timezone.now())
        audit.record("request.withdraw", acting_user=acting_user, target=request)


def approve(request: MachineRequest, *, acting_user: User, answer: str = "") -> Machine:
    """Have the machine made; the one that could not be made is tried again. Whoever comes second
    is told who was first, and nothing is made twice."""
    with transaction.atomic():
        lock(request)
        _undecided(request)
        machine = request.machine
        if machine is None or machine.state == State.DESTROYED:
            machine = _make(request, acting_user)
        elif requests.retry(machine, acting_user=acting_user).kind == Kind.DESTROY:
            raise Refused(_("What was half made is being removed. Try again when that is done."), code="busy")
        _decide(request, RequestState.APPROVED, acting_user, answer, machine=machine)
    return machine


def reject(request: MachineRequest, *, acting_user: User, answer: str) -> None:
    """Say no, with the reason the person reads. What was half made is removed."""
    if not answer.strip():
        raise Refused(_("Give a reason. The person who asked reads it."), code="reason")
    with transaction.atomic():
        lock(request)
        _undecided(request)
        _discard(request, acting_user=acting_user)
        _decide(request, RequestState.REJECTED, acting_user, answer)


def lock(request: MachineRequest) -> None:
    """Lock the row and bring the caller's object up to date. Inside a transaction only."""
    request.refresh_from_db(from_queryset=MachineRequest.objects.select_for_update(of=("self",)))


# -- what the machines tell ----------------------------------------------------------------------


def heard(machine: Machine) -> None:
    """A machine moved (`transitions.LISTENERS`). Its request is looked at after that transaction,
    which holds the machine: requests are locked before machines."""
    if machine.state in STABLE or machine.state == State.PENDING:
        transaction.on_commit(partial(settle, machine.pk), robust=True)


def settle(machine_pk: int) -> None:
    """Have the request of a machine follow it: ready when it was made, back to staff when it could not be."""
    request = MachineRequest.objects.filter(_FOLLOWING, machine=machine_pk).first()
    if request is None:
        return
    with transaction.atomic():
        lock(request)
        machine = request.machine
        state = _following(request, machine) if machine is not None else None
        if state is None or machine is None:
            return
        match state:
            case RequestState.FAILED:
                deleted = machine.state == State.DESTROYED
                _write(request, state=state, problem=_("The machine was deleted before it was ready.") if deleted else machine.problem)
                outbox.post(request, "failed")
                outbox.post_to_staff(request, "failed_staff")
            case RequestState.READY:
                _write(request, state=state, problem="")
                outbox.post(request, "ready")
            case _:
                _write(request, state=state, problem="")
        audit.record(
            f"request.{state}", acting_user=None, target=request, outcome="failed" if state == RequestState.FAILED else "ok", code=machine.problem_code
        )


def mend() -> int:
    """Do what `settle` did not come to, as its process died. For `sweep.SWEEPS`. Returns how many it looked at."""
    unsettled = list(MachineRequest.objects.filter(_FOLLOWING).order_by("pk").values_list("machine_id", flat=True)[:_MENDED_AT_ONCE])
    for machine_pk in unsettled:
        settle(machine_pk)
    return len(unsettled)


# The request's state, those its machine may be in, and what the request is then.
_FOLLOWS: tuple[tuple[RequestState, tuple[State, ...], RequestState], ...] = (
    (RequestState.APPROVED, (State.RUNNING, State.STOPPED), RequestState.READY),
    (RequestState.APPROVED, (State.FAILED, State.MISSING, State.DESTROYED), RequestState.FAILED),
    (RequestState.FAILED, (State.RUNNING, State.STOPPED), RequestState.READY),
    (RequestState.FAILED, (State.PENDING, State.PROVISIONING), RequestState.APPROVED),  # somebody tries it again on its own page
)
_FOLLOWING = Q()
for _before, _seen, _after in _FOLLOWS:
    _FOLLOWING |= Q(state=_before, machine__state__in=_seen)


def _following(request: MachineRequest, machine: Machine) -> RequestState | None:
    return next((after for before, seen, after in _FOLLOWS if request.state == before and machine.state in seen), None)


# -- what they are made of -----------------------------------------------------------------------


def _undecided(request: MachineRequest) -> None:
    if request.can_be_decided:
        return
    if request.state == RequestState.WITHDRAWN:
        raise Refused(_("%(person)s has withdrawn this request.") % {"person": request.requester}, code="decided")
    who = {"person": request.requester, "who": request.decided_by or _("somebody")}
    if request.state == RequestState.REJECTED:
        raise Refused(_("The request of %(person)s was rejected by %(who)s already.") % who, code="decided")
    raise Refused(_("The request of %(person)s was approved by %(who)s already.") % who, code="decided")


def _make(request: MachineRequest, acting_user: User) -> Machine:
    template, tier, person = request.template, request.tier, request.requester
    if not person.is_active:
        raise Refused(_("The account of %(person)s is closed. Reject the request.") % {"person": person}, code="closed")
    if not (template.present and template.active):
        raise Refused(
            _("The template “%(template)s” is not offered on %(cluster)s any more. The request stays as it is: offer the template again, or reject it.")
            % {"template": template, "cluster": template.cluster},
            code="template_gone",
        )
    quotas.check(quotas.hold(person), acting_user=acting_user, cores=tier.cores, memory_mib=tier.memory_mib)
    return requests.create_machine(
        acting_user=acting_user,
        template=template,
        name=_name(request),
        owner=person,
        cores=tier.cores,
        memory_mib=tier.memory_mib,
        disk_gib=tier.disk_gib,
        start=True,
    )


def _name(request: MachineRequest) -> str:
    """The person's name and the number of the request: ada-3."""
    stem = slugify(request.requester.get_username()).replace("_", "-")[:_NAME_LENGTH].strip("-")
    return f"{stem or 'machine'}-{request.number}"


def _discard(request: MachineRequest, *, acting_user: User) -> None:
    """Remove what was half made for a request."""
    if request.machine is not None and can(request.machine.state, Event.DESTROY):
        requests.destroy(request.machine, acting_user=acting_user)


def _decide(request: MachineRequest, state: RequestState, acting_user: User, answer: str, **columns: object) -> None:
    answer = answer.strip()[:LONGEST_ANSWER]
    _write(request, state=state, decided_by=acting_user, decided_at=timezone.now(), answer=answer, problem="", **columns)
    outbox.post(request, state.value)
    audit.record(f"request.{state}", acting_user=acting_user, target=request, answer=answer)


def _write(request: MachineRequest, **columns: object) -> None:
    for name, value in columns.items():
        setattr(request, name, value)
    request.save(update_fields=list(columns))
    _tell(request)


def _tell(request: MachineRequest) -> None:
    publish(f"owner:{request.requester_id}")
