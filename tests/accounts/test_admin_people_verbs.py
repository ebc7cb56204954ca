"""What the pages of the verbs promise before they are clicked, and whom staff leave to superusers."""

import pytest
from django.urls import reverse

from accounts.models import AuditEntry, Role, User
from accounts.services import people
from accounts.services.refusal import PersonRefused
from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def sam():
    return make_user("sam", role=Role.STAFF)


@pytest.fixture
def root():
    return make_user("root", role=Role.STAFF, is_superuser=True)


@pytest.fixture
def admin(client, sam):
    client.force_login(sam)
    return client


def text(response):
    return response.content.decode()


def told(response):
    return " ".join(str(message) for message in response.context["messages"])


def button(user, word):
    return reverse("admin:accounts_user_verb", args=[user.pk, word])


# -- opening again -------------------------------------------------------------------------------


def test_the_closed_account_of_staff_is_opened_by_superusers_alone(admin, sam, root):
    eve = make_user("eve", role=Role.STAFF)
    people.deactivate(eve, acting_user=root)
    assert button(eve, "reactivate") not in text(admin.get(reverse("admin:accounts_user_change", args=[eve.pk])))
    asked = text(admin.get(button(eve, "reactivate")))
    assert "Only a superuser can do this" in asked and "Leave it as it is" not in asked
    assert "Only a superuser can do this" in told(admin.post(button(eve, "reactivate"), follow=True))
    with pytest.raises(PersonRefused, match="Only a superuser"):
        people.reactivate(eve, acting_user=sam)
    assert not User.objects.get(pk=eve.pk).is_active and not AuditEntry.objects.filter(action="user.reactivate").exists()
    people.reactivate(eve, acting_user=root)
    assert User.objects.get(pk=eve.pk).is_active


def test_who_closes_the_account_of_staff_reads_that_only_a_superuser_opens_it_again(admin):
    for user, alone in ((make_user("eve", role=Role.STAFF), True), (make_user("ada"), False)):
        assert ("Only a superuser can open it again." in text(admin.get(button(user, "deactivate")))) is alone
        assert ("The account can be opened again." in text(admin.get(button(user, "deactivate")))) is not alone
