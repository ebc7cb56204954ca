"""What people do to machines. Each click is one POST to one service; the truth comes by the live feed.

With htmx a click is answered with 204, or 409 and the reason as a message; without scripts it leads
back to the machine's page, or shows that page with the reason and status 409.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.defaultfilters import date as date_format
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect

from accounts.http import by_htmx, person
from accounts.models import User
from machines.models import Machine
from machines.policies import access_machine, access_operation, can_manage, can_resize, sizes_of
from machines.providers.errors import ForeignMachine
from machines.selectors.pages import changed_since
from machines.services import requests
from machines.services.disclosure import reveal
from machines.services.refusal import Refused

from .forms import ResizeForm, SnapshotForm, TierForm
from .views import machine_page


def _text(request: HttpRequest, name: str) -> str:
    return (request.POST.get(name) or request.GET.get(name) or "").strip()


@dataclass(frozen=True, slots=True)
class Question:
    """What a person is asked before something is lost."""

    title: str
    lost: list[str]
    verb: str
    busy: str


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing to do. `ask` says what is lost; a verb without it needs no confirmation."""

    do: Callable[[HttpRequest, Machine, User], object]
    ask: Callable[[HttpRequest, Machine], Question] | None = None
    staff: bool = False
    leaves: bool = False  # the machine's page is gone afterwards


def _ask_force_off(request: HttpRequest, machine: Machine) -> Question:
    return Question(
        title=_("Switch off %(machine)s by force") % {"machine": machine},
        lost=[
            _("This is like pulling the plug: what is not saved in the machine is lost, and files that are being written may be damaged."),
            _("“Shut down” asks the machine to stop by itself and loses nothing."),
        ],
        verb=_("Force off"),
        busy=_("Switching off…"),
    )


def _ask_restart(request: HttpRequest, machine: Machine) -> Question:
    return Question(
        title=_("Restart %(machine)s") % {"machine": machine},
        lost=[_("The machine is reset at once: programs in it end and what is not saved is lost. Files on its disk stay.")],
        verb=_("Restart"),
        busy=_("Restarting…"),
    )


def _ask_revert(request: HttpRequest, machine: Machine) -> Question:
    snapshot = _text(request, "snapshot")
    since = changed_since(machine, snapshot)
    goal = {"machine": machine, "snapshot": snapshot}
    kept = [_("Snapshots stay. If the machine is on, it is started again afterwards.")]
    if not snapshot and not machine.keeps_snapshots:
        kept = [
            _("The storage of this machine keeps no snapshots: it is removed and made anew from its template, which takes as long as making it did."),
            _("If the machine is on, it is started again afterwards."),
        ]
    return Question(
        title=_("Revert %(machine)s to “%(snapshot)s”") % goal if snapshot else _("Revert %(machine)s to how it was made") % goal,
        lost=[
            format_html(_("Everything changed in the machine since {when} is lost: files, settings and installed programs."), when=_moment(since))
            if since
            else _("Everything changed in the machine since then is lost: files, settings and installed programs."),
            *kept,
        ],
        verb=_("Revert"),
        busy=_("Reverting…"),
    )


def _moment(moment: datetime) -> SafeString:
    """Date and time; where scripts run, in the person's zone (js/times.js)."""
    local = timezone.localtime(moment)
    return format_html('<time datetime="{}" data-moment>{}</time>', local.isoformat(), f"{date_format(local, 'l')}, {date_format(local, 'DATETIME_FORMAT')}")


def _ask_delete_snapshot(request: HttpRequest, machine: Machine) -> Question:
    goal = {"machine": machine, "snapshot": _text(request, "snapshot")}
    return Question(
        title=_("Delete the snapshot “%(snapshot)s” of %(machine)s") % goal,
        lost=[_("You can no longer revert to this state. The machine itself stays as it is now.")],
        verb=_("Delete snapshot"),
        busy=_("Deleting…"),
    )


def _ask_delete(request: HttpRequest, machine: Machine) -> Question:
    owner = [_("It is the machine of %(owner)s.") % {"owner": machine.owner}] if machine.owner else []
    lost = [_("The machine, its disk and all its snapshots are lost. This cannot be undone.")]
    if machine.problem_code == ForeignMachine.code:
        place = {"ref": machine.ref, "cluster": machine.cluster}
        lost = [
            _("What is at %(ref)s on %(cluster)s does not carry the label of this machine: it is left alone, with its disks.") % place,
            _("If it is this machine all the same, an administrator of the cluster has to remove it there. The portal forgets it."),
        ]
    return Question(
        title=_("Delete %(machine)s") % {"machine": machine},
        lost=[*owner, *lost],
        verb=_("Delete"),
        busy=_("Deleting…"),
    )


def _cancel(request: HttpRequest, machine: Machine, user: User) -> object:
    try:
        key = UUID(_text(request, "operation"))
    except ValueError:
        raise Http404 from None
    operation = access_operation(user, key)
    if operation.machine_id != machine.pk:
        raise Http404
    return requests.cancel(operation, acting_user=user)


VERBS: dict[str, Verb] = {
    "start": Verb(lambda request, machine, user: requests.start(machine, acting_user=user)),
    "stop": Verb(lambda request, machine, user: requests.stop(machine, acting_user=user)),
    "restart": Verb(lambda request, machine, user: requests.restart(machine, acting_user=user), ask=_ask_restart),
    "force-off": Verb(lambda request, machine, user: requests.force_off(machine, acting_user=user), ask=_ask_force_off),
    "revert": Verb(lambda request, machine, user: requests.revert(machine, acting_user=user, snapshot=_text(request, "snapshot")), ask=_ask_revert),
    "retry": Verb(lambda request, machine, user: requests.retry(machine, acting_user=user)),
    "cancel": Verb(_cancel),
    "delete-snapshot": Verb(
        lambda request, machine, user: requests.delete_snapshot(machine, acting_user=user, name=_text(request, "snapshot")), ask=_ask_delete_snapshot
    ),
    "delete": Verb(lambda request, machine, user: requests.destroy(machine, acting_user=user), ask=_ask_delete, staff=True, leaves=True),
}


@require_http_methods(["GET", "POST"])
@login_required
def power(request: HttpRequest, key: UUID, verb: str) -> HttpResponse:
    """POST does it. GET asks first where something is lost, else leads to the machine's page."""
    machine = _machine(request, key)
    wanted = VERBS[verb]
    if wanted.staff and not can_manage(person(request), machine):
        raise PermissionDenied
    if request.method == "GET":
        return redirect(_page_of(machine)) if wanted.ask is None else _confirm(request, machine, wanted.ask(request, machine))
    try:
        wanted.do(request, machine, person(request))
    except Refused as refusal:
        return _refuse(request, machine, refusal)
    if by_htmx(request):
        return HttpResponseClientRedirect(reverse("machines:mine")) if wanted.leaves else HttpResponse(status=204)
    return redirect(_next(request) or (reverse("machines:mine") if wanted.leaves else _page_of(machine)))


@require_http_methods(["GET", "POST"])
@login_required
def snapshot(request: HttpRequest, key: UUID) -> HttpResponse:
    """Take one."""

    def take(machine: Machine, values: dict[str, Any]) -> object:
        return requests.take_snapshot(machine, acting_user=person(request), **values)

    return _form(request, _machine(request, key), SnapshotForm(request.POST or None), take, "machines/snapshot.html")


@require_http_methods(["GET", "POST"])
@login_required
def resize(request: HttpRequest, key: UUID) -> HttpResponse:
    """Staff enter numbers; others choose among the sizes the machine may have."""
    machine, user = _machine(request, key), person(request)
    if not can_resize(user, machine):
        raise PermissionDenied

    def change(machine: Machine, values: dict[str, Any]) -> object:
        return requests.resize(machine, acting_user=user, **values)

    form: Form
    if can_manage(user, machine):
        form = ResizeForm(request.POST or None, initial={"cores": machine.cores, "memory_mib": machine.memory_mib, "disk_gib": machine.disk_gib})
    else:
        form = TierForm(request.POST or None, machine=machine, tiers=sizes_of(user, machine))
    return _form(request, machine, form, change, "machines/resize.html")


@require_POST
@login_required
@never_cache
def credentials(request: HttpRequest, key: UUID) -> HttpResponse:
    """The password, for half a minute. Every look is recorded."""
    machine = _machine(request, key)
    sign_in = reveal(machine, acting_user=person(request))
    context = {"machine": machine, "sign_in": sign_in, "seconds": 30}
    return render(request, "machines/_sign_in.html" if by_htmx(request) else "machines/sign_in.html", context)


# -- what they are made of ---------------------------------------------------------------------


def _machine(request: HttpRequest, key: UUID) -> Machine:
    return access_machine(person(request), key)


def _page_of(machine: Machine) -> str:
    return reverse("machines:machine", args=[machine.key])


def _next(request: HttpRequest) -> str:
    """Where a form without scripts wants to go afterwards: a page of ours, or nothing."""
    wanted = request.POST.get("next", "")
    return wanted if url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure()) else ""


def _confirm(request: HttpRequest, machine: Machine, question: Question, problem: str = "", status: int = 200) -> HttpResponse:
    context = {
        "title": question.title,
        "lost": question.lost,
        "verb": question.verb,
        "busy": question.busy,
        "problem": problem,
        "back": _page_of(machine),
        "in_place": True,
        "fields": {"snapshot": name} if (name := _text(request, "snapshot")) else {},
    }
    return render(request, "labportal/confirm.html", context, status=status)


def _refuse(request: HttpRequest, machine: Machine, refusal: Refused) -> HttpResponse:
    messages.error(request, refusal.message)
    if by_htmx(request):
        return HttpResponse(status=409)
    machine = access_machine(person(request), machine.key)
    return render(request, "machines/machine.html", machine_page(request, machine), status=409)


def _form(request: HttpRequest, machine: Machine, form: Form, do: Callable[[Machine, dict[str, Any]], object], template: str) -> HttpResponse:
    """A form for something to do: shown, sent, and shown again with the reason where it is refused."""
    status = 200
    if form.is_bound:
        if form.is_valid():
            try:
                do(machine, form.cleaned_data)
                return redirect(_page_of(machine))
            except Refused as refusal:
                form.add_error(None, refusal.message)
        status = 409
    return render(request, template, {"machine": machine, "form": form}, status=status)
