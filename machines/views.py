"""Pages of machines and operations. Everything comes from the database; no page waits for a hypervisor."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_safe

from accounts.http import by_htmx, person
from machines.models import Cluster, Machine
from machines.policies import access_machine, access_operation, can_manage, can_resize
from machines.selectors import display, pages
from machines.services.way_in import way_in

CARDS = 24
ROWS = 50


@require_safe
def mine(request: HttpRequest) -> HttpResponse:
    """The person's machines as cards. htmx asks for the list alone. Whoever signs in from here
    begins where their role does (accounts.adapter)."""
    if not request.user.is_authenticated:
        return redirect("account_login")
    user = person(request)
    found, clusters, chosen = pages.of_one_cluster(pages.machines_of(user), "cluster", request.GET.get("cluster", ""))
    page = Paginator(found, CARDS).get_page(request.GET.get("page"))
    machines = list(page)
    context = {
        "page": page,
        "machines": machines,
        "places": pages.places(machines),
        "clusters": clusters,
        "chosen": chosen,
        "topics": [f"owner:{user.pk}", *pages.topics_of(machines)],
    }
    return render(request, "machines/_mine.html" if by_htmx(request) else "machines/mine.html", context)


@require_safe
@login_required
def machines(request: HttpRequest) -> HttpResponse:
    """All machines, for staff."""
    _staff_only(request)
    wanted = pages.MachineFilter(*(request.GET.get(name, "").strip() for name in ("q", "state", "cluster")))
    page = Paginator(pages.all_machines(wanted), ROWS).get_page(request.GET.get("page"))
    rows = list(page)
    context = {
        "page": page,
        "machines": rows,
        "places": pages.places(rows),
        "wanted": wanted,
        "states": pages.machine_states(),
        "clusters": Cluster.objects.all(),
        "topics": pages.topics_of(rows),
    }
    return render(request, "machines/_machines.html" if by_htmx(request) else "machines/machines.html", context)


@require_safe
@login_required
def machine(request: HttpRequest, key: UUID) -> HttpResponse:
    """One machine: state, what is being done, how to connect, what happened. htmx asks for all but the frame."""
    found = access_machine(person(request), key)
    return render(request, "machines/_machine.html" if by_htmx(request) else "machines/machine.html", machine_page(request, found))


def machine_page(request: HttpRequest, machine: Machine) -> dict[str, Any]:
    working = pages.working_on(machine)
    happened, earlier = pages.overview(machine)
    topics = [f"machine:{machine.key}", f"cluster:{machine.cluster_id}"]
    if working is not None:
        topics.append(f"operation:{working.operation.key}")
    return {
        "machine": machine,
        "place": pages.places([machine]).get(machine.pk),
        "working": working,
        "why_no_console": display.why_no_console(machine),
        "way_in": way_in(machine),
        "booting": display.is_booting(machine),
        "snapshots": list(machine.snapshots.all()),
        "happened": happened,
        "earlier": earlier,
        "manages": can_manage(person(request), machine),
        "resizes": can_resize(person(request), machine),
        "topics": topics,
    }


@require_safe
@login_required
def history(request: HttpRequest, key: UUID) -> HttpResponse:
    """What happened to a machine, as far back as it goes."""
    found = access_machine(person(request), key)
    happened, earlier = pages.timeline(found, before=_moment(request.GET.get("before", "")), length=ROWS)
    return render(request, "machines/history.html", {"machine": found, "happened": happened, "earlier": earlier})


def _moment(text: str) -> datetime | None:
    try:
        moment = parse_datetime(text)
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None


@require_safe
@login_required
def operation(request: HttpRequest, key: UUID) -> HttpResponse:
    found = access_operation(person(request), key)
    context = {
        "operation": found,
        "machine": found.machine,
        "working": pages.follow(found),
        "topics": [f"operation:{found.key}", f"machine:{found.machine.key}"],
    }
    return render(request, "machines/_operation.html" if by_htmx(request) else "machines/operation.html", context)


@require_safe
@login_required
def operations(request: HttpRequest) -> HttpResponse:
    """All operations, for staff."""
    _staff_only(request)
    wanted = pages.OperationFilter(*(request.GET.get(name, "").strip() for name in ("state", "kind", "cluster", "q")))
    page = Paginator(pages.all_operations(wanted), ROWS).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "operations": list(page),
        "wanted": wanted,
        "states": pages.operation_states(),
        "kinds": pages.operation_kinds(),
        "clusters": Cluster.objects.all(),
        "topics": [f"operation:{found.key}" for found in page],
    }
    return render(request, "machines/_operations.html" if by_htmx(request) else "machines/operations.html", context)


def _staff_only(request: HttpRequest) -> None:
    if not person(request).runs_portal:
        raise PermissionDenied
