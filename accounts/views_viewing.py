"""The way back for staff who look at the portal as somebody else."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from accounts import viewing
from accounts.http import person


@require_POST
@login_required
def stop(request: HttpRequest) -> HttpResponse:
    seen = viewing.end(request, person(request), "stopped")
    return redirect("admin:accounts_user_change", seen) if seen is not None else redirect("/")
