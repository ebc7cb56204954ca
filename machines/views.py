"""Pages of machines."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe


@require_safe
@login_required
def mine(request: HttpRequest) -> HttpResponse:
    return render(request, "machines/mine.html")
