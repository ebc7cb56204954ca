"""What is kept of people who are signed in."""

from typing import Any

from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.db.models import Exists, OuterRef
from django.http import HttpRequest
from django.utils import timezone

from accounts.models import User

from . import sessions

_AT_ONCE = 500  # rows that one statement deletes


def on_signed_in(request: HttpRequest, user: User, **signal: Any) -> None:
    """In place of allauth's, which looks at each session of the person by itself."""
    UserSession.objects.create_from_request(request)
    sessions.end_oldest(user)


def forget_expired() -> None:
    """Remove sessions that nobody can use any more; whoever only looks at an invite may leave one. And from where those
    were: addresses and browsers of people who never come back are nobody's business."""
    Session.objects.filter(expire_date__lt=timezone.now()).delete()
    over = UserSession.objects.exclude(Exists(Session.objects.filter(session_key=OuterRef("session_key")))).order_by("pk")
    while keys := list(over.values_list("pk", flat=True)[:_AT_ONCE]):
        UserSession.objects.filter(pk__in=keys).delete()
