"""Signs of life of the processes behind the portal."""

from datetime import timedelta

from django.utils import timezone

from machines.models import Heartbeat

KEPT = timedelta(days=1)


def beat(name: str) -> None:
    Heartbeat.objects.update_or_create(name=name, defaults={"at": timezone.now()})


def forget_old() -> None:
    Heartbeat.objects.filter(at__lt=timezone.now() - KEPT).delete()
