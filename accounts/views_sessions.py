"""Where oneself is signed in, and ending that."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from accounts.http import person
from accounts.services import sessions


@login_required
@require_http_methods(["GET", "POST"])
def signed_in(request: HttpRequest) -> HttpResponse:
    """The list; a POST signs out everywhere else."""
    user, this = person(request), request.session.session_key
    if request.method == "POST":
        ended = sessions.end_all(user, acting_user=user, but=this)
        said = ngettext("You are signed out in %(count)d other browser.", "You are signed out in %(count)d other browsers.", ended) % {"count": ended}
        messages.success(request, said)
        return redirect("accounts:sessions")
    return render(request, "usersessions/usersession_list.html", {"sessions": sessions.of_person(user, this=this)})


@login_required
@require_POST
def end(request: HttpRequest, pk: int) -> HttpResponse:
    if not sessions.end(person(request), pk, acting_user=person(request)):
        raise Http404
    messages.success(request, _("You are signed out there."))
    return redirect("accounts:sessions")
