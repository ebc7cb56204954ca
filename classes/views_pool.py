"""What teachers do to the machines and students of a class, one or many at once.

What loses something is asked first: GET, or POST without `confirmed`, names what is lost; for many
machines their number must be typed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from accounts.http import by_htmx, person
from machines.lifecycle import Kind
from machines.services.refusal import Refused

from . import selectors
from .forms import AddMachinesForm
from .models import Enrolment, LabClass, PoolMachine
from .policies import access_run_class, place_of
from .services import bulk, enrolment, pool
from .views import page_of

MANY = 5  # from so many on their number must be typed
NAMED = 6


@login_required
@require_http_methods(["GET", "POST"])
def add_machines(request: HttpRequest, key: UUID) -> HttpResponse:
    lab_class = access_run_class(person(request), key)
    waiting = selectors.waiting(lab_class).count()
    form = AddMachinesForm(request.POST or None, initial={"count": min(max(waiting, 1), pool.MOST_AT_ONCE)})
    if form.is_valid():
        try:
            pool.add_machines(lab_class, form.cleaned_data["count"], acting_user=person(request))
        except Refused as refused:
            form.add_error(None, refused.message)
        else:
            return redirect(page_of(lab_class))
    return render(request, "classes/add_machines.html", {"form": form, "lab_class": lab_class, "waiting": waiting}, status=409 if form.errors else 200)


@login_required
@require_POST
def retry(request: HttpRequest, key: UUID, machine: UUID) -> HttpResponse:
    place = place_of(access_run_class(person(request), key), machine)
    try:
        pool.retry(place, acting_user=person(request))
    except Refused as refused:
        messages.error(request, refused.message)
        if by_htmx(request):
            return HttpResponse(status=409)
    return HttpResponse(status=204) if by_htmx(request) else redirect(page_of(place.lab_class))


@dataclass(frozen=True, slots=True)
class Loss:
    """A verb that is asked about first."""

    title: Callable[[int], str]
    lost: Sequence[str]
    verb: str


def _losses() -> dict[str, Loss]:
    return {
        "force-off": Loss(
            lambda count: ngettext("Switch off %(count)d machine by force", "Switch off %(count)d machines by force", count),
            [_("This is like pulling the plug: what is not saved in them is lost, and files that are being written may be damaged.")],
            _("Force off"),
        ),
        "restart": Loss(
            lambda count: ngettext("Restart %(count)d machine", "Restart %(count)d machines", count),
            [_("They are reset at once: programs in them end and what is not saved is lost. Files on their disks stay.")],
            _("Restart"),
        ),
        "revert": Loss(
            lambda count: ngettext("Revert %(count)d machine to how it was made", "Revert %(count)d machines to how they were made", count),
            [_("Everything changed in them since they were made is lost: files, settings and installed programs.")],
            _("Revert"),
        ),
        "remove": Loss(
            lambda count: ngettext("Delete %(count)d machine", "Delete %(count)d machines", count),
            [
                _("The machines, their disks and all their snapshots are lost. This cannot be undone."),
                _("Their students stay in the class: they get a free machine, or wait for one."),
            ],
            _("Delete"),
        ),
    }


KINDS = {"start": Kind.START, "stop": Kind.STOP, "force-off": Kind.FORCE_OFF, "restart": Kind.RESTART, "revert": Kind.REVERT}
VERBS = (*KINDS, "remove")


@login_required
@require_http_methods(["GET", "POST"])
def act(request: HttpRequest, key: UUID, verb: str) -> HttpResponse:
    """Do `verb` to the chosen machines, or to `all` of the class."""
    lab_class = access_run_class(person(request), key)
    places = _chosen(request, lab_class)
    if not places:
        messages.warning(request, _("Choose at least one machine first."))
        return redirect(page_of(lab_class))
    loss = _losses().get(verb)
    if loss is not None:
        names = [_named(place) for place in places]
        asked = _ask(request, lab_class, loss.title(len(places)) % {"count": len(places)}, [_listed(names), *loss.lost], loss.verb, len(places))
        if asked is not None:
            return asked
    elif request.method == "GET":
        return redirect(page_of(lab_class))
    try:
        if verb == "remove":
            pool.remove_machines(lab_class, places, acting_user=person(request))
        else:
            _tell(request, bulk.ask_all(lab_class, places, KINDS[verb], acting_user=person(request)))
    except Refused as refused:
        messages.error(request, refused.message)
    return redirect(page_of(lab_class))


@login_required
@require_http_methods(["GET", "POST"])
def remove_students(request: HttpRequest, key: UUID) -> HttpResponse:
    """Of the chosen machines (`machine`), or who wait for one (`student`: their user names)."""
    lab_class = access_run_class(person(request), key)
    students = _chosen_students(request, lab_class)
    if not students:
        messages.warning(request, _("Choose at least one machine that has a student."))
        return redirect(page_of(lab_class))
    count = len(students)
    title = ngettext("Remove %(count)d student from %(class)s", "Remove %(count)d students from %(class)s", count) % {"count": count, "class": lab_class}
    lost = [
        _listed([str(each.student) for each in students]),
        _("Their machines are deleted with all that is in them. Fresh ones with new passwords take their place: nobody finds what they left."),
        _("They can join again by an invite, and get another machine then."),
    ]
    asked = _ask(request, lab_class, title, lost, _("Remove"), count)
    if asked is not None:
        return asked
    enrolment.remove_students(lab_class, students, acting_user=person(request))
    return redirect(page_of(lab_class))


# -- what they are made of ---------------------------------------------------------------------


def _keys(request: HttpRequest, name: str) -> list[str]:
    """From check boxes (many values), or from the confirmation (one, with commas)."""
    values = request.POST.getlist(name) or request.GET.getlist(name)
    return [key for value in values for key in value.split(",") if key]


def _uuids(request: HttpRequest) -> list[UUID]:
    found = []
    for key in _keys(request, "machine"):
        try:
            found.append(UUID(key))
        except ValueError:
            continue
    return found


def _chosen(request: HttpRequest, lab_class: LabClass) -> list[PoolMachine]:
    places = selectors.places(lab_class)
    if "all" not in request.POST:
        places = places.filter(machine__key__in=_uuids(request))
    return list(places)


def _chosen_students(request: HttpRequest, lab_class: LabClass) -> list[Enrolment]:
    return list(selectors.enrolments(lab_class, machines=_uuids(request), usernames=_keys(request, "student")))


def _ask(request: HttpRequest, lab_class: LabClass, title: str, lost: list[str], verb: str, count: int) -> HttpResponse | None:
    """The question, or None where it was answered."""
    typed = count >= MANY
    confirmed = request.method == "POST" and "confirmed" in request.POST
    right = not typed or request.POST.get("count", "").strip() == str(count)
    if confirmed and right:
        return None
    fields = {name: ",".join(keys) for name in ("machine", "student") if (keys := _keys(request, name))}
    context = {
        "title": title,
        "lost": lost,
        "verb": verb,
        "back": page_of(lab_class),
        "fields": {**fields, "confirmed": "1"},
        "count": count if typed else None,
        "problem": _("The number does not match. Nothing was done.") if confirmed else "",
    }
    return render(request, "labportal/confirm.html", context, status=409 if confirmed else 200)


def _named(place: PoolMachine) -> str:
    student = place.enrolment.student if place.enrolment else None
    return _("%(machine)s of %(student)s") % {"machine": place.machine, "student": student} if student else str(place.machine)


def _listed(names: Sequence[str]) -> str:
    """The first few by name, the rest as a number."""
    more = len(names) - NAMED
    shown = ", ".join(names[:NAMED])
    return ngettext("%(names)s and %(count)d more.", "%(names)s and %(count)d more.", more) % {"names": shown, "count": more} if more > 0 else f"{shown}."


def _tell(request: HttpRequest, outcome: bulk.Outcome) -> None:
    if outcome.begun:
        messages.success(request, ngettext("%(count)d machine is at it.", "%(count)d machines are at it.", outcome.begun) % {"count": outcome.begun})
    if outcome.skipped:
        count = len(outcome.skipped)
        skipped = ngettext("%(count)d machine was left out:", "%(count)d machines were left out:", count) % {"count": count}
        reasons = " ".join(why for _name, why in outcome.skipped[:NAMED])
        more = f" {_('and so on.')}" if count > NAMED else ""
        messages.info(request, f"{skipped} {reasons}{more}")
