"""What must hold between settings."""

from itertools import pairwise
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register
def timings(**_: Any) -> list[CheckMessage]:
    """Each of these must be over before the next one begins to count: else a worker is killed in
    the middle of a call, or an operation is given to a second worker while the first is at it."""
    ordered = [
        ("PROVIDER_CALL_SECONDS", settings.PROVIDER_CALL_SECONDS),
        ("SLICE_SECONDS", settings.SLICE_SECONDS),
        ("WORKER_TIMEOUT_SECONDS", settings.WORKER_TIMEOUT_SECONDS),
        ("LEASE_SECONDS", settings.LEASE_SECONDS),
        ("QUEUE_RETRY_SECONDS", settings.Q_CLUSTER["retry"]),
    ]
    return [
        Error(f"{longer} ({seconds:g}) must be more than {shorter} ({fewer:g}).", hint="The order is that of .env.example.", id="machines.E001")
        for (shorter, fewer), (longer, seconds) in pairwise(ordered)
        if seconds <= fewer
    ]
