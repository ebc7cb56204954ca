"""How long the record is kept."""

from datetime import datetime, time, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import AuditEntry

from . import audit

AT_ONCE = 2000  # entries removed by one transaction, which others wait for on SQLite


def forget() -> int:
    """Remove some of what is older than AUDIT_DAYS whole days, and record how much. Returns how many entries there were.

    Days end at midnight, so that what is removed of a day is recorded a few times and not with every look.
    """
    if not settings.AUDIT_DAYS:
        return 0
    before = timezone.make_aware(datetime.combine(timezone.localdate() - timedelta(days=settings.AUDIT_DAYS), time.min))
    with transaction.atomic():
        old = list(AuditEntry.objects.filter(at__lt=before).order_by("at").values_list("pk", flat=True)[:AT_ONCE])
        if not old:
            return 0
        count = AuditEntry.objects.filter(pk__in=old).forget()
        if count:  # none where another process was quicker
            audit.record("audit.forgotten", acting_user=None, count=count, before=before.isoformat())
    return count
