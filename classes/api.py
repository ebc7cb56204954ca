"""Classes: their machines, students and invites, and work on all of their machines."""

from typing import Annotated
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from ninja import Body, Path, Query, Router, Status

from accounts.bearer import CLASSES, READ, bearer_of
from accounts.http import address_for_others
from accounts.rest import ERRORS, Id, Part, checked, part
from machines.lifecycle import Kind

from . import selectors
from .forms import InviteForm, NewClassForm
from .models import Invite, LabClass
from .policies import access_batch, access_class, access_run_class, invite_of, runs_class
from .schemas import (
    BatchOut,
    BulkIn,
    BulkOut,
    BulkVerb,
    Classes,
    ClassIn,
    ClassOut,
    InviteIn,
    InviteOut,
    Invites,
    MachinesIn,
    PlaceOut,
    Places,
    Skipped,
    StudentOut,
    Students,
)
from .services import bulk, invites, pool
from .services import classes as lab_classes

router = Router(tags=["classes"])

_KINDS = {
    BulkVerb.START: Kind.START,
    BulkVerb.STOP: Kind.STOP,
    BulkVerb.RESTART: Kind.RESTART,
    BulkVerb.FORCE_OFF: Kind.FORCE_OFF,
    BulkVerb.REVERT: Kind.REVERT,
}


@router.get("classes", **READ, response={200: Classes} | ERRORS, summary="Classes one runs or is in")
def classes(request: HttpRequest, wanted: Query[Part]) -> Classes:
    user = bearer_of(request)
    found, after = part(selectors.visible_to(user), wanted)
    counts = selectors.counts([each for each in found if runs_class(user, each)])
    return Classes(items=[ClassOut.of(each, counts.get(each.pk)) for each in found], next=after)


@router.post("classes", **CLASSES, response={201: ClassOut} | ERRORS, summary="Make a class")
def new_class(request: HttpRequest, wanted: ClassIn) -> Status[ClassOut]:
    user = bearer_of(request)
    if not user.teaches:
        raise PermissionDenied
    form = NewClassForm({**wanted.dict(exclude={"tier"}), "size": f"tier:{wanted.tier}" if wanted.tier else "template"}, user=user)
    made = lab_classes.create_class(acting_user=user, machines=checked(form)["machines"], **form.values())
    return Status(201, _with_counts(made))


@router.get("classes/{uuid:key}", **READ, response={200: ClassOut} | ERRORS, summary="One class")
def lab_class(request: HttpRequest, key: UUID) -> ClassOut:
    user = bearer_of(request)
    found = access_class(user, key)
    return _with_counts(found) if runs_class(user, found) else ClassOut.of(found, None)


@router.get("classes/{uuid:key}/students", **READ, response={200: Students} | ERRORS, summary="Who is in a class one runs")
def students(request: HttpRequest, key: UUID, wanted: Query[Part]) -> Students:
    found, after = part(selectors.roll(access_run_class(bearer_of(request), key)), wanted)
    return Students(items=[StudentOut.of(enrolment) for enrolment in found], next=after)


@router.get("classes/{uuid:key}/machines", **READ, response={200: Places} | ERRORS, summary="The machines of a class one runs")
def places(request: HttpRequest, key: UUID, wanted: Query[Part]) -> Places:
    found, after = part(selectors.places(access_run_class(bearer_of(request), key)), wanted)
    return Places(items=[PlaceOut.of(place) for place in found], next=after)


@router.post("classes/{uuid:key}/machines", **CLASSES, response={202: BatchOut} | ERRORS, summary="Add machines to a class")
def add_machines(request: HttpRequest, key: UUID, wanted: MachinesIn) -> Status[BatchOut]:
    user = bearer_of(request)
    batch = pool.add_machines(access_run_class(user, key), wanted.count, acting_user=user)
    return Status(202, BatchOut.of(batch, selectors.batch_progress(batch)))


@router.get("classes/{uuid:key}/invites", **CLASSES, response={200: Invites} | ERRORS, summary="The invites of a class, newest first")
def open_invites(request: HttpRequest, key: UUID, wanted: Query[Part]) -> Invites:
    found, after = part(selectors.open_invites(access_run_class(bearer_of(request), key)), wanted, newest_first=True)
    return Invites(items=[_invite(request, invite) for invite in found], next=after)


@router.post("classes/{uuid:key}/invites", **CLASSES, response={201: InviteOut} | ERRORS, summary="Invite people to a class")
def invite(request: HttpRequest, key: UUID, wanted: InviteIn) -> Status[InviteOut]:
    user = bearer_of(request)
    lab_class = access_run_class(user, key)
    form = InviteForm(wanted.dict())
    checked(form)
    return Status(201, _invite(request, invites.create_invite(lab_class, acting_user=user, **form.values())))


@router.delete("classes/{uuid:key}/invites/{int:number}", **CLASSES, response={204: None} | ERRORS, summary="Withdraw an invite")
def withdraw_invite(request: HttpRequest, key: UUID, number: Annotated[Id, Path()]) -> Status[None]:
    user = bearer_of(request)
    invites.revoke_invite(invite_of(access_run_class(user, key), number), acting_user=user)
    return Status(204, None)


@router.post(
    "classes/{uuid:key}/{verb}",
    **CLASSES,
    response={202: BulkOut} | ERRORS,
    summary="Start, stop, restart, force off or revert machines of a class",
    description="What cannot be done to a machine is left out, and said why.",
)
def ask_all(request: HttpRequest, key: UUID, verb: BulkVerb, wanted: Annotated[BulkIn | None, Body()] = None) -> Status[BulkOut]:
    user = bearer_of(request)
    lab_class = access_run_class(user, key)
    keys = wanted.machines if wanted is not None else None
    places = selectors.places(lab_class)
    chosen = list(places if keys is None else places.filter(machine__key__in=keys))
    outcome = bulk.ask_all(lab_class, chosen, _KINDS[verb], acting_user=user)
    skipped = [Skipped(machine=name, why=why) for name, why in outcome.skipped]
    unknown = set(keys or ()) - {place.machine.key for place in chosen}
    skipped += [Skipped(machine=str(key), why=_("The class has no such machine.")) for key in sorted(unknown)]
    return Status(202, BulkOut(batch=outcome.batch.key if outcome.batch else None, begun=outcome.begun, skipped=skipped))


@router.get("batches/{uuid:key}", **READ, response={200: BatchOut} | ERRORS, summary="How far work on many machines is")
def batch(request: HttpRequest, key: UUID) -> BatchOut:
    found = access_batch(bearer_of(request), key)
    return BatchOut.of(found, selectors.batch_progress(found))


# -- what they are made of -----------------------------------------------------------------------


def _with_counts(lab_class: LabClass) -> ClassOut:
    return ClassOut.of(lab_class, selectors.counts([lab_class])[lab_class.pk])


def _invite(request: HttpRequest, invite: Invite) -> InviteOut:
    return InviteOut.of(invite, address_for_others(request, reverse("classes:join", args=[invites.link_token(invite)])))
