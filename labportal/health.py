"""For probes: whether this web process can work, and when worker and watcher last showed that they do."""

from django.db import DatabaseError
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from machines.selectors.heartbeats import heartbeat_ages


@require_safe
@never_cache
def health(request: HttpRequest) -> JsonResponse:
    """200 with the age of each heartbeat in seconds; 503 where the database does not answer. Asks no hypervisor:
    one that is down makes no portal unhealthy."""
    try:
        return JsonResponse({"status": "ok", "heartbeats": heartbeat_ages()})
    except DatabaseError:
        return JsonResponse({"status": "no database"}, status=503)
