"""For probes: whether the portal can work. Asks no hypervisor: one that is down makes no portal unhealthy."""

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from machines.selectors.heartbeats import clusters_answering, heartbeat_ages

NEEDED = ("worker", "watcher")
SILENT_AFTER = 90  # seconds; both show themselves every few


@require_safe
@never_cache
def health(request: HttpRequest) -> JsonResponse:
    """200 with the age of each heartbeat in seconds and how many clusters answer; 503 where the
    database does not answer, or worker or watcher have been silent for too long."""
    try:
        ages, clusters = heartbeat_ages(), clusters_answering()
    except DatabaseError:
        return JsonResponse({"status": "no database"}, status=503)
    silent = [name for name in NEEDED if ages.get(name, SILENT_AFTER) >= SILENT_AFTER]
    status = f"no {' and no '.join(silent)}" if silent else "ok"
    return JsonResponse({"status": status, "heartbeats": ages, "clusters": clusters}, status=503 if silent else 200)


@require_safe
@never_cache
def alive(request: HttpRequest) -> HttpResponse:
    """This web process answers. Looks at nothing else: a database that is down needs no new web process."""
    return HttpResponse("ok\n", content_type="text/plain")
