"""Pages of classes and of bulk work."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.http import address_for_others, by_htmx, leads_nowhere, person
from accounts.models import User
from accounts.services import groups
from machines.selectors import display
from machines.services.refusal import Refused

from . import selectors
from .forms import ClassForm, NewClassForm
from .models import Invite, LabClass
from .policies import access_batch, access_class, access_run_class, runs_class
from .services import classes, invites

ROWS = 50
NAMED = 20  # students who wait, machines that failed: so many by name, the rest as a number


def page_of(lab_class: LabClass) -> str:
    return reverse("classes:lab_class", args=[lab_class.key])


def link_of(request: HttpRequest, invite: Invite) -> str:
    return address_for_others(request, reverse("classes:join", args=[invites.link_token(invite)]))


@require_safe
@login_required
def class_list(request: HttpRequest) -> HttpResponse:
    """Classes the person runs, and those they are in."""
    user = person(request)
    taught = selectors.taught_by(user).select_related("teacher", "template").order_by(F("archived_at").asc(nulls_first=True), "name", "pk")
    page = Paginator(taught, ROWS).get_page(request.GET.get("page")) if user.teaches else None
    classes = list(page or [])
    joined = list(selectors.joined_by(user))
    topics = [f"owner:{user.pk}", *(f"class:{each.key}" for each in classes)]
    counts = selectors.counts(classes)
    context = {"page": page, "taught": [(each, counts[each.pk]) for each in classes], "joined": joined, "topics": topics}
    return render(request, "classes/_list.html" if by_htmx(request) else "classes/list.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    user = person(request)
    if not user.teaches:
        raise PermissionDenied
    form = NewClassForm(request.POST or None, user=person(request))
    if form.is_valid():
        try:
            made = classes.create_class(acting_user=user, machines=form.cleaned_data["machines"], **form.values())
        except Refused as refused:
            form.add_error(None, refused.message)
        else:
            return redirect(page_of(made))
    return render(request, "classes/form.html", {"form": form}, status=409 if form.errors else 200)


@login_required
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, key: UUID) -> HttpResponse:
    lab_class = access_run_class(person(request), key)
    form = ClassForm(request.POST or None, user=person(request), lab_class=lab_class)
    if form.is_valid():
        classes.edit_class(lab_class, acting_user=person(request), **form.values())
        messages.success(request, _("The class is saved."))
        return redirect(page_of(lab_class))
    return render(request, "classes/form.html", {"form": form, "lab_class": lab_class}, status=409 if form.errors else 200)


@login_required
@require_http_methods(["GET", "POST"])
def archive(request: HttpRequest, key: UUID) -> HttpResponse:
    lab_class = access_run_class(person(request), key)
    if request.method == "POST":
        classes.archive_class(lab_class, acting_user=person(request))
        messages.success(request, _("%(class)s is archived.") % {"class": lab_class})
        return redirect(page_of(lab_class))
    context = {
        "title": _("Archive %(class)s") % {"class": lab_class},
        "lost": [
            _("Its invites stop working, and nobody gets a machine any more."),
            _("Students keep their machines until you remove them. You can restore the class at any time."),
        ],
        "verb": _("Archive"),
        "back": page_of(lab_class),
    }
    return render(request, "labportal/confirm.html", context)


@login_required
@require_POST
def restore(request: HttpRequest, key: UUID) -> HttpResponse:
    lab_class = access_run_class(person(request), key)
    classes.restore_class(lab_class, acting_user=person(request))
    messages.success(request, _("%(class)s is restored.") % {"class": lab_class})
    return redirect(page_of(lab_class))


@require_safe
@login_required
def lab_class(request: HttpRequest, key: UUID) -> HttpResponse:
    """The class as its teacher runs it, or as a student of it sees it. htmx asks for all but the frame."""
    user = person(request)
    found = access_class(user, key)
    if runs_class(user, found):
        return render(request, "classes/_teach.html" if by_htmx(request) else "classes/teach.html", _teaching(request, found))
    return render(request, "classes/_attend.html" if by_htmx(request) else "classes/attend.html", _attending(user, found))


def _teaching(request: HttpRequest, lab_class: LabClass) -> dict[str, Any]:
    wanted = {name: request.GET.get(name, "").strip() for name in ("q", "show", "sort")}
    places = selectors.places(lab_class, show=wanted["show"], search=wanted["q"], sort=wanted["sort"])
    page = Paginator(places, ROWS).get_page(request.GET.get("page"))
    links = list(selectors.open_invites(lab_class)[:NAMED])
    waiting, failed = selectors.waiting(lab_class), selectors.needing_attention(lab_class)
    left = list(selectors.left_group(lab_class))
    shown = [("attention", _("Needing attention")), ("on", _("On")), ("off", _("Off")), ("free", _("Free"))]
    if lab_class.directory_group:
        shown.append(("left", _("Left the group")))
    return {
        "lab_class": lab_class,
        "cluster": lab_class.template.cluster,
        "stale": display.is_stale(lab_class.template.cluster),
        "stale_after": int(display.STALE_AFTER.total_seconds()),
        "progress": selectors.pool_progress(lab_class),
        "students": selectors.students(lab_class),
        "page": page,
        "wanted": wanted,
        "shown": shown,
        "links_lead_nowhere": leads_nowhere(address_for_others(request, "/")),
        "invites": [{"invite": invite, "link": link_of(request, invite)} for invite in links],
        "waiting": list(waiting[:NAMED]),
        "waiting_count": waiting.count(),
        "left": left[:NAMED],
        "left_count": len(left),
        "all_left": ",".join(enrolment.student.get_username() for enrolment in left),
        "group": groups.shown(lab_class.directory_group),
        "failed": list(failed[:NAMED]),
        "failed_count": failed.count(),
        "batches": list(selectors.batches_of(lab_class)[:NAMED]),
        "topics": [f"class:{lab_class.key}", f"cluster:{lab_class.template.cluster_id}"],
    }


def _attending(user: User, lab_class: LabClass) -> dict[str, Any]:
    enrolment = selectors.enrolment_of(user, lab_class)
    assert enrolment is not None  # by access_class
    place = getattr(enrolment, "place", None)
    machine = place.machine if place else None
    return {
        "lab_class": lab_class,
        "enrolment": enrolment,
        "machine": machine,
        "position": None if place else selectors.position(enrolment),
        "topics": [f"owner:{user.pk}", *([f"machine:{machine.key}", f"cluster:{machine.cluster_id}"] if machine else [])],
    }


@require_safe
@login_required
def batch(request: HttpRequest, key: UUID) -> HttpResponse:
    """Work on many machines: one bar, and a list that begins with the failures."""
    found = access_batch(person(request), key)
    page = Paginator(selectors.batch_operations(found), ROWS).get_page(request.GET.get("page"))
    context = {
        "batch": found,
        "progress": selectors.batch_progress(found),
        "page": page,
        "lab_class": selectors.class_of(found),
        "topics": [f"batch:{found.key}", *(f"machine:{operation.machine.key}" for operation in page)],
    }
    return render(request, "classes/_batch.html" if by_htmx(request) else "classes/batch.html", context)
