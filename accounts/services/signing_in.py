"""What is kept of people who are signed in."""

from django.contrib.sessions.models import Session
from django.utils import timezone


def forget_expired() -> None:
    """Remove sessions that nobody can use any more; whoever only looks at an invite may leave one."""
    Session.objects.filter(expire_date__lt=timezone.now()).delete()
