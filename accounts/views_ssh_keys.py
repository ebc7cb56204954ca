"""One's own SSH public keys."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from accounts.forms import SshKeyForm
from accounts.http import person
from accounts.services import ssh_keys


@login_required
@require_http_methods(["GET", "POST"])
def keys(request: HttpRequest) -> HttpResponse:
    """The list; a POST adds one. What was posted is never shown again: it may have been a private key."""
    user = person(request)
    form = SshKeyForm(request.POST or None, request.FILES or None)
    if form.is_valid():
        try:
            key = ssh_keys.add(user, given=form.cleaned_data["given"], name=form.cleaned_data["name"])
        except ssh_keys.KeyRefused as refused:
            form.add_error("text", refused.message)
        else:
            messages.success(request, _("The key %(name)s is added.") % {"name": key.name})
            return redirect("accounts:ssh_keys")
    return render(request, "accounts/ssh_keys.html", {"form": form, "keys": user.ssh_keys.all()})


@login_required
@require_POST
def remove(request: HttpRequest, pk: int) -> HttpResponse:
    key = get_object_or_404(person(request).ssh_keys, pk=pk)
    ssh_keys.remove(key, acting_user=person(request))
    messages.success(request, _("The key %(name)s is removed. Machines that have it keep it until they are reverted.") % {"name": key.name})
    return redirect("accounts:ssh_keys")
