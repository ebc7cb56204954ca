"""What is in the record stays there as it was written, whoever tries."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.models.audit import AppendOnly
from accounts.services import audit
from tests.factories import make_user

pytestmark = pytest.mark.django_db

TRIGGERS = import_module("accounts.migrations.0005_the_record_is_append_only")
MORE_TRIGGERS = import_module("accounts.migrations.0009_the_record_is_not_replaced")
# Each database has a statement of its own that passes the triggers for changes and removals.
PAST_OTHER_TRIGGERS = {
    "sqlite": "INSERT OR REPLACE INTO accounts_auditentry (id, at, action, actor_name, object_type, object_id, object_name, outcome, data)"
    " SELECT id, at, 'nothing', '', '', '', '', 'ok', '{}' FROM accounts_auditentry",
    "postgresql": "TRUNCATE accounts_auditentry",
}


@pytest.fixture
def entry():
    return audit.record("test", acting_user=make_user("ada"))


@pytest.fixture
def guarded(db):
    """As the migration leaves it (tests/conftest.py)."""
    with connection.cursor() as cursor:
        cursor.execute(TRIGGERS.SQLITE[1] if connection.vendor == "sqlite" else MORE_TRIGGERS.POSTGRESQL)


def written_long_ago():
    return AuditEntry.objects.create(at=timezone.now() - timedelta(days=31), action="old")


def test_no_code_changes_or_removes_an_entry(entry):
    for attempt in (
        entry.save,
        entry.delete,
        AuditEntry.objects.all().delete,
        lambda: AuditEntry.objects.update(action="nothing"),
        lambda: AuditEntry.objects.filter(pk=entry.pk).update(actor=None),
        lambda: AuditEntry.objects.bulk_update([entry], ["action"]),
    ):
        with pytest.raises(AppendOnly):
            attempt()
    assert AuditEntry.objects.get().action == "test"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts_auditentry SET action = 'nothing'",
        "UPDATE accounts_auditentry SET at = '2000-01-01 00:00:00'",
        "UPDATE accounts_auditentry SET actor_id = NULL",
        "DELETE FROM accounts_auditentry",
        PAST_OTHER_TRIGGERS[connection.vendor],
    ],
)
def test_the_database_refuses_it_too(entry, guarded, statement):
    with pytest.raises(DatabaseError, match="neither changed nor removed"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert AuditEntry.objects.get().action == "test"


def test_an_old_entry_is_not_changed_either(guarded):
    written_long_ago()
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_auditentry SET action = 'nothing'")


def test_an_old_one_may_be_forgotten_and_a_young_one_not(entry, guarded):
    written_long_ago()
    assert AuditEntry.objects.filter(action="old").forget() == 1
    with pytest.raises(DatabaseError), transaction.atomic():
        AuditEntry.objects.all().forget()
    assert AuditEntry.objects.get().action == "test"


def test_it_stays_as_it_was_when_the_person_is_removed(entry, guarded):
    number = entry.actor_id
    entry.actor.delete()
    entry = AuditEntry.objects.select_related("actor").get()
    assert (entry.actor_id, entry.actor, entry.actor_name) == (number, None, "ada")
