"""Machines, what is done to them, and requests for them."""

from typing import Annotated
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from django.db.models import Q
from django.http import HttpRequest
from ninja import Body, Header, Query, Router, Status

from accounts.bearer import POWER, READ, bearer_of
from accounts.rest import ERRORS, Id, Part, Word, checked, part

from .forms_requests import AskForm
from .lifecycle import State
from .policies import access_machine, access_operation, access_request, granted, offered_templates
from .schemas import (
    MachineOut,
    Machines,
    MachineWhole,
    OperationFollowed,
    OperationOut,
    PowerVerb,
    RequestIn,
    RequestOut,
    Requests,
    RevertIn,
    TemplateOut,
    Templates,
)
from .selectors import approvals as asked
from .selectors import listing, pages
from .services import approvals, requests

router = Router(tags=["machines"])

_VERBS = {
    PowerVerb.START: requests.start,
    PowerVerb.STOP: requests.stop,
    PowerVerb.RESTART: requests.restart,
    PowerVerb.FORCE_OFF: requests.force_off,
}


class MachinesWanted(Part):
    all: bool = False
    state: State | None = None
    cluster: Id | None = None


@router.get(
    "machines",
    **READ,
    response={200: Machines} | ERRORS,
    summary="One's own machines",
    description="With “all”, every machine that the person may see: a teacher those of their classes, staff all.",
)
def machines(request: HttpRequest, wanted: Query[MachinesWanted]) -> Machines:
    user = bearer_of(request)
    whose = granted(user) if wanted.all else Q(owner=user)
    found, after = part(listing.machines(whose, state=wanted.state or "", cluster=wanted.cluster), wanted)
    places = pages.places(found)
    return Machines(items=[MachineOut.of(machine, places.get(machine.pk)) for machine in found], next=after)


@router.get("machines/{uuid:key}", **READ, response={200: MachineWhole} | ERRORS, summary="One machine")
def machine(request: HttpRequest, key: UUID) -> MachineWhole:
    found = access_machine(bearer_of(request), key)
    working = pages.working_on(found)
    found.working = [working.operation] if working else []  # type: ignore[attr-defined]  # as of selectors.listing
    place = pages.places([found]).get(found.pk)
    return MachineWhole.of_whole(found, place, [snapshot.name for snapshot in found.snapshots.all()])


@router.post(
    "machines/{uuid:key}/revert",
    **POWER,
    response={202: OperationOut} | ERRORS,
    summary="Revert a machine",
    description="Everything changed in it since is lost. It is on afterwards if it was before.",
)
def revert(request: HttpRequest, key: UUID, wanted: Annotated[RevertIn | None, Body()] = None) -> Status[OperationOut]:
    user = bearer_of(request)
    found = access_machine(user, key)
    return Status(202, OperationOut.of(requests.revert(found, acting_user=user, snapshot=wanted.snapshot if wanted else ""), found))


@router.post(
    "machines/{uuid:key}/{verb}",
    **POWER,
    response={202: OperationOut} | ERRORS,
    summary="Start, stop, restart or force off a machine",
    description="Asking twice for what is being done answers the operation that does it.",
)
def power(request: HttpRequest, key: UUID, verb: PowerVerb) -> Status[OperationOut]:
    user = bearer_of(request)
    found = access_machine(user, key)
    return Status(202, OperationOut.of(_VERBS[verb](found, acting_user=user), found))


@router.get("operations/{uuid:key}", **READ, response={200: OperationFollowed} | ERRORS, summary="How far an operation is", tags=["operations"])
def operation(request: HttpRequest, key: UUID) -> OperationFollowed:
    return OperationFollowed.of_working(pages.follow(access_operation(bearer_of(request), key)))


@router.get("templates", **READ, response={200: Templates} | ERRORS, summary="What a machine may be asked of, in which sizes", tags=["requests"])
def templates(request: HttpRequest) -> Templates:
    return Templates(items=[TemplateOut.of(template, tiers) for template, tiers in listing.sizes(offered_templates(bearer_of(request)))])


@router.get("requests", **READ, response={200: Requests} | ERRORS, summary="One's own requests, newest first", tags=["requests"])
def machine_requests(request: HttpRequest, wanted: Query[Part]) -> Requests:
    found, after = part(asked.requests_of(bearer_of(request)).select_related("requester"), wanted, newest_first=True)
    return Requests(items=[RequestOut.of(one) for one in found], next=after)


@router.get("requests/{uuid:key}", **READ, response={200: RequestOut} | ERRORS, summary="One request", tags=["requests"])
def machine_request(request: HttpRequest, key: UUID) -> RequestOut:
    return RequestOut.of(access_request(bearer_of(request), key))


@router.post(
    "requests",
    **POWER,
    response={201: RequestOut} | ERRORS,
    summary="Ask for a machine",
    description="Staff decide. Sent again with the same header “Idempotency-Key”, it is the request it made before.",
    tags=["requests"],
)
def ask(request: HttpRequest, wanted: RequestIn, idempotency_key: Annotated[Word | None, Header()] = None) -> Status[RequestOut]:
    user = bearer_of(request)
    token = uuid5(NAMESPACE_OID, f"{user.pk} {idempotency_key}") if idempotency_key else uuid4()
    made = approvals.asked_before(user, token)
    if made is None:
        form = AskForm({**wanted.dict(), "token": token}, user=user)
        checked(form)
        made = approvals.ask(user, **form.values())
    return Status(201, RequestOut.of(access_request(user, made.key)))
