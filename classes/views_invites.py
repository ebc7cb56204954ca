"""Invites, from the link a teacher makes to the click by which somebody joins."""

from uuid import UUID

from allauth.core import ratelimit
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.http import address_for_others, by_htmx, clicked_before, leads_nowhere, person, sign_in_first
from machines.services.refusal import Refused

from . import selectors
from .forms import CodeForm, InviteForm
from .models import LabClass
from .policies import access_class, access_run_class, invite_of, runs_class
from .services import enrolment, invites
from .views import link_of, page_of


@login_required
@require_http_methods(["GET", "POST"])
def new_invite(request: HttpRequest, key: UUID) -> HttpResponse:
    lab_class = access_run_class(person(request), key)
    form = InviteForm(request.POST or None, initial={"lasts": "week"})
    if form.is_valid():
        try:
            invites.create_invite(lab_class, acting_user=person(request), **form.values())
        except Refused as refused:
            form.add_error(None, refused.message)
        else:
            return redirect(page_of(lab_class))
    return render(request, "classes/new_invite.html", {"form": form, "lab_class": lab_class}, status=409 if form.errors else 200)


@login_required
@require_safe
def project(request: HttpRequest, key: UUID, number: int) -> HttpResponse:
    """The invite for the projector: QR code, address and code, as large as the screen allows."""
    lab_class = access_run_class(person(request), key)
    invite = invite_of(lab_class, number)
    address = address_for_others(request, reverse("classes:code"))
    context = {
        "lab_class": lab_class,
        "invite": invite,
        "link": link_of(request, invite),
        "address": address.split("://", 1)[1].rstrip("/"),
        "links_lead_nowhere": leads_nowhere(address),
        "students": selectors.students(lab_class),
        "topics": [f"class:{lab_class.key}"],
    }
    return render(request, "classes/_joined.html" if by_htmx(request) else "classes/project.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def revoke(request: HttpRequest, key: UUID, number: int) -> HttpResponse:
    lab_class = access_run_class(person(request), key)
    invite = invite_of(lab_class, number)
    if request.method == "POST":
        invites.revoke_invite(invite, acting_user=person(request))
        messages.success(request, _("The invite is withdrawn. Nobody can join by it any more."))
        return redirect(page_of(lab_class))
    context = {
        "title": _("Withdraw the invite %(code)s") % {"code": invites.spoken(invite)},
        "lost": [_("Nobody can join by this link or code any more. Whoever joined by it stays in the class.")],
        "verb": _("Withdraw"),
        "back": page_of(lab_class),
    }
    return render(request, "labportal/confirm.html", context)


@never_cache
@require_http_methods(["GET", "POST"])
def code(request: HttpRequest) -> HttpResponse:
    """Join by the short code, typed by hand. Wrong codes are counted per network, right ones are
    not: a lecture hall behind one address joins unhindered."""
    form = CodeForm(request.POST or None)
    status = 200
    if form.is_valid():
        if not ratelimit.consume(request, action="join_code", dry_run=True):
            form.add_error("code", _("There were too many wrong codes from your network. Wait a few minutes, or use the link of the invite."))
            return render(request, "classes/code.html", {"form": form}, status=429)
        invite = invites.by_code(form.cleaned_data["code"])
        if invite is not None:
            return redirect("classes:join", token=invites.link_token(invite))
        ratelimit.consume(request, action="join_code")
        invites.note_refused(None, acting_user=request.user, code="wrong_code")
        form.add_error("code", _("No class has this code. Compare it with the screen, or ask your teacher for a new one."))
        status = 404
    return render(request, "classes/code.html", {"form": form}, status=status)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponse:
    """GET says which class invites and never enrols; one POST does. The POST of somebody who has
    to sign in first counts when they come back."""
    invite = invites.by_link(token)
    if invite is None:
        return _closed(request, "mangled", _("This is not a whole invite link."), None, status=404)
    lab_class = invite.lab_class
    asked = request.method == "POST" or clicked_before(request)
    if request.user.is_authenticated and selectors.is_enrolled(person(request), lab_class) and not runs_class(person(request), lab_class):
        messages.info(request, _("You are in %(class)s already.") % {"class": lab_class})
        return redirect(page_of(lab_class))
    if (refused := invites.why_closed(invite)) is not None:
        if asked:
            invites.note_refused(invite, acting_user=request.user, code=refused.code)
        return _closed(request, refused.code, refused.message, lab_class, status=410)
    if not asked:
        return render(request, "classes/join.html", {"lab_class": lab_class})
    if not request.user.is_authenticated:
        return sign_in_first(request, new="new" in request.POST)
    try:
        joined = enrolment.join(invite, student=person(request))
    except Refused as refusal:  # it closed since the page was shown
        invites.note_refused(invite, acting_user=request.user, code=refusal.code)
        return _closed(request, refusal.code, refusal.message, lab_class, status=410)
    messages.success(request, _welcome(joined))
    return redirect(page_of(lab_class))


@login_required
@require_http_methods(["GET", "POST"])
def leave(request: HttpRequest, key: UUID) -> HttpResponse:
    lab_class = access_class(person(request), key)
    own = selectors.enrolment_of(person(request), lab_class)
    if own is None:
        raise Http404
    if request.method == "POST":
        enrolment.leave(own)
        messages.success(request, _("You have left %(class)s.") % {"class": lab_class})
        return redirect("classes:list")
    place = getattr(own, "place", None)
    lost = [_("Your machine %(machine)s is deleted with everything in it. This cannot be undone.") % {"machine": place.machine}] if place else []
    context = {
        "title": _("Leave %(class)s") % {"class": lab_class},
        "lost": [*lost, _("To come back you need an invite, and get another machine then.")],
        "verb": _("Leave"),
        "back": page_of(lab_class),
    }
    return render(request, "labportal/confirm.html", context)


# -- what they are made of ---------------------------------------------------------------------


def _closed(request: HttpRequest, reason: str, what: str, lab_class: LabClass | None, *, status: int) -> HttpResponse:
    """What happened, what it means, what to do."""
    if reason == "mangled":
        means = _("It may have been cut off when it was copied or sent.")
        do = _("Open it again from where you got it, or type the code of the invite.")
    else:
        means = _("You cannot join by it; if you are in the class already, nothing changes for you.")
        do = _("Ask %(teacher)s for a new invite.") % {"teacher": lab_class.teacher} if lab_class else ""
    return render(request, "classes/closed.html", {"what": what, "means": means, "do": do, "code": f"invite-{reason}"}, status=status)


def _welcome(joined: enrolment.Joined) -> str:
    name = joined.enrolment.lab_class
    if not joined.new:
        return _("You are in %(class)s already.") % {"class": name}
    place = selectors.place_of_enrolment(joined.enrolment)
    if place is None:
        return _("You are in %(class)s. All machines are taken: you get one by itself as soon as one is free.") % {"class": name}
    if place.machine.made_at is None:
        return _("You are in %(class)s. Your machine %(machine)s is being made.") % {"class": name, "machine": place.machine}
    return _("You are in %(class)s. Your machine is %(machine)s.") % {"class": name, "machine": place.machine}
