"""Asking for a machine, and following what becomes of it. Staff decide in the admin."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from accounts.http import by_htmx, person
from machines.lifecycle import State
from machines.models import MachineRequest
from machines.policies import access_request
from machines.selectors import approvals as asked
from machines.selectors import pages
from machines.selectors.quotas import quota_of
from machines.services import approvals
from machines.services.refusal import Refused
from machines.services.way_in import way_in

from .forms import described
from .forms_requests import AskForm

ROWS = 25


@require_safe
@login_required
def requests(request: HttpRequest) -> HttpResponse:
    """The person's own. htmx asks for the list alone."""
    user = person(request)
    found, clusters, chosen = pages.of_one_cluster(asked.requests_of(user), "template__cluster", request.GET.get("cluster", ""))
    page = Paginator(found, ROWS).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "clusters": clusters,
        "chosen": chosen,
        "requests": [{"asked": one, "shown": asked.shown(one)} for one in page],
        "to_decide": asked.waiting_for_staff() if user.runs_portal else 0,
        "quota": quota_of(user),
        "topics": [f"owner:{user.pk}"],
    }
    return render(request, "machines/_requests.html" if by_htmx(request) else "machines/requests.html", context)


@require_http_methods(["GET", "POST"])
@login_required
def ask(request: HttpRequest) -> HttpResponse:
    """The form. Sent twice, it makes one request."""
    user = person(request)
    form = AskForm(request.POST or None, user=user)
    status = 200
    if form.is_bound:
        if form.is_valid():
            try:
                made = approvals.ask(user, **form.values())
                return redirect("machines:request", made.key)
            except Refused as refusal:
                form.add_error(None, refusal.message)
        status = 409
    return render(request, "machines/request_form.html", {"form": form, "quota": quota_of(user)}, status=status)


@require_safe
@login_required
def one_request(request: HttpRequest, key: UUID) -> HttpResponse:
    """One request: what was asked, what was decided, how far it is. htmx asks for all but the frame."""
    found = access_request(person(request), key)
    return render(request, "machines/_request.html" if by_htmx(request) else "machines/request.html", _page(found))


@require_http_methods(["GET", "POST"])
@login_required
def withdraw(request: HttpRequest, key: UUID) -> HttpResponse:
    user = person(request)
    found = access_request(user, key)
    if found.requester_id != user.pk:
        raise PermissionDenied  # staff reject it, with a reason
    page = reverse("machines:request", args=[found.key])
    if request.method == "POST":
        try:
            approvals.withdraw(found, acting_user=user)
        except Refused as refusal:
            messages.error(request, refusal.message)
            if by_htmx(request):
                return HttpResponse(status=409)
            return render(request, "machines/request.html", _page(access_request(user, key)), status=409)
        return HttpResponse(status=204) if by_htmx(request) else redirect(page)
    context = {
        "title": _("Withdraw this request"),
        "lost": [_("Nobody decides it any more: %(request)s.") % {"request": found}, _("You can ask again at any time.")],
        "verb": _("Withdraw"),
        "busy": _("Withdrawing…"),
        "back": page,
        "in_place": True,
    }
    return render(request, "labportal/confirm.html", context)


def _page(found: MachineRequest) -> dict[str, Any]:
    machine = found.machine if found.machine is not None and found.machine.state != State.DESTROYED else None
    working = pages.working_on(machine) if machine is not None else None
    topics = [f"owner:{found.requester_id}"]
    if machine is not None:
        topics += [f"machine:{machine.key}", f"cluster:{machine.cluster_id}"]
    if working is not None:
        topics.append(f"operation:{working.operation.key}")
    return {
        "asked": found,
        "shown": asked.shown(found),
        "size": described(found.tier),
        "machine": machine,
        "working": working,
        "way_in": way_in(machine) if machine is not None else None,
        "topics": topics,
    }
