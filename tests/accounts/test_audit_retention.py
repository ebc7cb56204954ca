"""The record is kept as long as the settings say, and what goes is recorded."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.services import retention
from machines.services import sweep

pytestmark = pytest.mark.django_db


def written(days, action="old"):
    return AuditEntry.objects.create(at=timezone.now() - timedelta(days=days), action=action)


def test_what_is_older_goes_and_the_rest_stays(settings):
    settings.AUDIT_DAYS = 60
    written(100), written(62), written(58, "young")
    assert retention.forget() == 2
    assert list(AuditEntry.objects.values_list("action", flat=True)) == ["audit.forgotten", "young"]
    assert AuditEntry.objects.first().data["count"] == 2
    assert retention.forget() == 0
    assert AuditEntry.objects.count() == 2


def test_zero_keeps_everything(settings):
    settings.AUDIT_DAYS = 0
    written(5000)
    assert retention.forget() == 0 and AuditEntry.objects.count() == 1


def test_a_lot_goes_piece_by_piece_the_oldest_first(settings, monkeypatch):
    settings.AUDIT_DAYS = 60
    monkeypatch.setattr(retention, "AT_ONCE", 3)
    for days in (70, 100, 80, 90, 110):
        written(days, f"{days}")
    assert retention.forget() == 3
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {"audit.forgotten", "70", "80"}
    assert retention.forget() == 2


def test_the_trim_of_the_worker_does_it(settings):
    settings.AUDIT_DAYS = 60
    written(100)
    sweep.trim()
    assert not AuditEntry.objects.filter(action="old").exists()
