"""One's own profile. Signing in and up, passwords and addresses are allauth's."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts.http import person
from accounts.models import User
from accounts.services import preferences
from accounts.services.profiles import change_profile

from .forms import ProfileForm


@login_required
@require_http_methods(["GET", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    user = person(request)
    form = ProfileForm(request.POST or None, instance=User.objects.get(pk=user.pk))  # a form writes what it was given to its instance, valid or not
    if form.is_valid():
        change_profile(user, **form.cleaned_data)
        with preferences.of(user):  # in the language they have chosen now
            messages.success(request, _("Your profile is saved."))
        return redirect("accounts:profile")
    return render(request, "accounts/profile.html", {"form": form})
