"""What every page knows."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from machines.selectors import any_simulated


def portal(request: HttpRequest) -> dict[str, Any]:
    return {"portal_name": settings.PORTAL_NAME, "demo": settings.DEMO, "simulated": any_simulated()}
