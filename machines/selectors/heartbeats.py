"""Signs of life of the processes behind the portal."""

from django.utils import timezone

from machines.models import Cluster, Heartbeat


def heartbeat_ages() -> dict[str, float]:
    """Seconds since each heartbeat, by name: worker, watcher."""
    now = timezone.now()
    return {beat.name: round((now - beat.at).total_seconds(), 1) for beat in Heartbeat.objects.order_by("name")}


def clusters_answering() -> dict[str, int]:
    answers = list(Cluster.objects.values_list("reachable", flat=True))
    return {"all": len(answers), "answering": sum(answers)}
