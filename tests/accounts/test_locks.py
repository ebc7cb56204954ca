"""Two who lock people at the same moment, in whatever order. Only a server that locks rows can tell."""

import threading

import pytest
from django.db import connection, connections, transaction

from accounts.models import User
from accounts.services import people, removal, roles
from machines.models import Batch
from machines.services import quotas
from tests.factories import make_user

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def server(db):
    if connection.vendor != "postgresql":
        pytest.skip("TEST_DATABASE_URL names no PostgreSQL")


def meanwhile(do) -> None:
    """Another process does this, and waits for nobody."""
    raised = []

    def run() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '5s'")
            do()
        except Exception as error:
            raised.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert not thread.is_alive() and not raised, raised


def test_somebody_asks_to_be_removed_while_staff_begin_to_close_the_account():
    boss, anna = make_user("boss", role="staff", is_superuser=True, email="boss@uni.test"), make_user("anna")
    with transaction.atomic():
        roles.hold_staff()  # as closing an account begins
        meanwhile(lambda: removal.ask(User.objects.get(pk=anna.pk)))  # holds the person, and writes that staff are told
        people.deactivate(anna, acting_user=boss)
    anna.refresh_from_db()
    assert anna.removal_asked_at and not anna.is_active


def test_staff_approve_a_wish_while_an_account_is_closed():
    sam, anna = make_user("sam", role="staff"), make_user("anna")

    def approve() -> None:
        with transaction.atomic():
            quotas.hold(anna)
            Batch.objects.create(title="anna", requested_by=sam)

    with transaction.atomic():
        roles.hold_staff()
        meanwhile(approve)
