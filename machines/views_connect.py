"""Getting to a machine from a program of one's own."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.http import by_htmx, person
from machines.policies import access_machine
from machines.services import locating
from machines.services import rdp as remote_desktop
from machines.services.refusal import Refused

from .views import machine_page


@require_safe
@login_required
@never_cache
def rdp(request: HttpRequest, key: UUID) -> HttpResponse:
    """The file that opens the remote desktop; 409 with the reason where there is none."""
    machine = access_machine(person(request), key)
    try:
        text = remote_desktop.rdp_file(machine, acting_user=person(request))
    except Refused as refusal:
        messages.error(request, refusal.message)
        return render(request, "machines/machine.html", machine_page(request, machine), status=409)
    name = "".join(letter for letter in machine.name if letter.isascii() and (letter.isalnum() or letter in "-_")) or "machine"
    return HttpResponse(text, content_type="application/x-rdp", headers={"Content-Disposition": f'attachment; filename="{name}.rdp"'})


@require_POST
@login_required
def look_again(request: HttpRequest, key: UUID) -> HttpResponse:
    """Ask for the machine's address once more, soon."""
    machine = access_machine(person(request), key)
    try:
        locating.ask_again(machine)
        messages.success(request, _("The address is looked for."))
        status = 204
    except Refused as refusal:
        messages.error(request, refusal.message)
        status = 409
    if by_htmx(request):
        return HttpResponse(status=status)
    return redirect("machines:machine", key=machine.key)
