"""Whoever wanted to join and could not is on the record; what they typed is not."""

import pytest
from django.core.cache import cache
from django.urls import reverse

from accounts.models import AuditEntry
from classes.services.invites import link_token, revoke_invite
from tests.classes.rows import make_class, make_invite
from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_limits():
    cache.clear()


def refused():
    return list(AuditEntry.objects.filter(action="class.join").exclude(outcome="ok"))


def test_a_wrong_code(client):
    client.post(reverse("classes:code"), {"code": "MYPASSWD"})
    [entry] = refused()
    assert (entry.actor, entry.actor_name, entry.outcome, entry.data, entry.address) == (None, "", "wrong_code", {}, "127.0.0.1")


def test_an_invite_that_is_closed(client):
    lab_class = make_class()
    invite = make_invite(lab_class)
    revoke_invite(invite, acting_user=lab_class.teacher)
    ada = make_user("ada")
    client.force_login(ada)
    page = reverse("classes:join", args=[link_token(invite)])
    client.get(page)
    assert not refused()  # looking is not trying
    client.post(page)
    [entry] = refused()
    assert (entry.actor, entry.object_name, entry.data) == (ada, str(lab_class), {"invite": invite.pk})
    assert entry.outcome == "revoked"
