"""E-mail addresses: which of them stays, and the mail that confirms one."""

import re

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from classes.models import Enrolment
from classes.services import invites
from tests.classes.rows import make_class, make_invite
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_limits():
    cache.clear()


@pytest.fixture
def ada(client):
    user = make_user("ada")
    sign_in(client)
    return user


def sign_in(client):
    return client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD})


def press(client, button, email):
    return client.post(reverse("account_email"), {button: "", "email": email}, follow=True).content.decode()


def addresses(user):
    return set(EmailAddress.objects.filter(user=user).values_list("email", flat=True))


@pytest.mark.parametrize("with_another", [False, True], ids=["the only one", "beside one that is not confirmed"])
def test_the_only_confirmed_address_stays(client, ada, with_another):
    if with_another:
        EmailAddress.objects.create(user=ada, email="ada@home.test")
        EmailAddress.objects.filter(user=ada).update(primary=False)
    page = press(client, "action_remove", "ada@uni.test")
    assert "ada@uni.test stays" in page
    assert "ada@uni.test" in addresses(ada)
    client.logout()
    assert sign_in(client).url == "/"


def test_an_address_is_replaced_by_another_that_is_confirmed(client, ada):
    EmailAddress.objects.create(user=ada, email="ada@home.test", verified=True)
    press(client, "action_primary", "ada@home.test")
    press(client, "action_remove", "ada@uni.test")
    assert addresses(ada) == {"ada@home.test"}


def test_an_address_that_is_not_confirmed_is_removed(client, ada):
    EmailAddress.objects.create(user=ada, email="ada@home.test")
    press(client, "action_remove", "ada@home.test")
    assert addresses(ada) == {"ada@uni.test"}


def test_a_mail_is_announced_when_it_was_sent_and_not_when_it_was_not(client):
    make_user("ada")
    EmailAddress.objects.update(verified=False)
    pages = []
    for _ in range(2):
        answer = sign_in(client)
        assert answer.url == reverse("account_email_verification_sent")
        pages.append(client.get(answer.url).content.decode())
    assert len(mail.outbox) == 1
    assert ["on its way" in page for page in pages] == [True, False]
    assert all("To have it sent again, wait three minutes and sign in again." in page for page in pages)


def buttons(client):
    """Those of each address on the page."""
    forms = re.findall(r'<form class="row-line".*?</form>', client.get(reverse("account_email")).content.decode(), re.S)
    return {re.search(r'name="email" value="([^"]+)"', form)[1]: set(re.findall(r'name="action_(\w+)"', form)) for form in forms}


def test_an_address_has_the_buttons_that_do_something(client, ada):
    assert buttons(client) == {"ada@uni.test": set()}
    other = EmailAddress.objects.create(user=ada, email="ada@home.test")
    assert buttons(client) == {"ada@uni.test": set(), "ada@home.test": {"send", "remove"}}
    other.set_verified()
    assert buttons(client) == {"ada@uni.test": set(), "ada@home.test": {"primary", "remove"}}


def test_where_nothing_is_confirmed_one_chooses_all_the_same(client, ada, settings):
    EmailAddress.objects.filter(user=ada).update(verified=False)
    EmailAddress.objects.create(user=ada, email="ada@home.test")
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    assert buttons(client) == {"ada@uni.test": set(), "ada@home.test": {"primary", "remove"}}


@pytest.mark.parametrize("length", [254, 255])
def test_an_address_is_as_long_as_the_table_holds(client, ada, length):
    email = "a" * (length - len("@home.test")) + "@home.test"
    page = press(client, "action_add", email)
    assert (email in addresses(ada)) == (length == 254)
    assert ("at most 254 characters" in page) == (length == 255)


def add(user, *, up_to):
    for number in range(EmailAddress.objects.filter(user=user).count(), up_to):
        EmailAddress.objects.create(user=user, email=f"ada@home{number}.test", verified=number % 2 == 0)


def test_a_person_has_ten_addresses_at_most(client, ada):
    words = "An account has at most 10 addresses."
    add(ada, up_to=9)
    assert words not in client.get(reverse("account_email")).content.decode()
    press(client, "action_add", "tenth@home.test")
    assert "tenth@home.test" in addresses(ada) and mail.outbox[-1].to == ["tenth@home.test"]
    sent = len(mail.outbox)
    assert words in press(client, "action_add", "eleventh@home.test")
    assert len(addresses(ada)) == 10 and len(mail.outbox) == sent
    page = client.get(reverse("account_email")).content.decode()
    assert words in page and "action_add" not in page
    press(client, "action_remove", "tenth@home.test")
    press(client, "action_add", "eleventh@home.test")
    assert "eleventh@home.test" in addresses(ada)


def test_the_page_costs_the_same_however_many_addresses_there_are(client, ada):
    page = reverse("account_email")
    client.get(page)
    with CaptureQueriesContext(connection) as few:
        client.get(page)
    add(ada, up_to=10)
    with CaptureQueriesContext(connection) as many:
        client.get(page)
    assert len(many) == len(few)


# -- the way of an invite ------------------------------------------------------------------------

NEW = {"username": "grace", "email": "grace@uni.test", "password1": "an admirable compiler"}


def link_of_mail():
    return re.search(r"https?://[^/\s]+(/accounts/confirm-email/\S+)", mail.outbox[-1].body)[1]


@pytest.fixture
def invite():
    """The path of one."""
    return reverse("classes:join", args=[invites.link_token(make_invite(make_class()))])


def test_an_address_confirmed_on_another_device_leads_to_the_class_and_joins_nothing(client, invite):
    client.post(invite, {"new": ""})
    client.post(reverse("account_signup"), NEW | {"next": invite})
    telephone = Client()
    form = telephone.get(link_of_mail()).content.decode()
    assert f'name="next" value="{invite}"' in form
    answer = telephone.post(link_of_mail().split("?")[0], {"next": invite}, follow=True)
    assert answer.redirect_chain[-1][0] == invite
    assert "Sign in" in answer.content.decode() and not Enrolment.objects.exists()
    signed_in = telephone.post(telephone.post(invite).url, {"login": "grace", "password": NEW["password1"], "next": invite}, follow=True)
    assert signed_in.status_code == 200
    assert Enrolment.objects.get().student.username == "grace"


def test_a_mail_for_whoever_was_on_no_way_says_none(client):
    client.post(reverse("account_signup"), NEW)
    assert "next=" not in link_of_mail()


def test_a_link_leads_to_no_other_site(client):
    client.post(reverse("account_signup"), NEW | {"next": "https://evil.test/"})
    assert "evil" not in mail.outbox[-1].body
    answer = Client().post(f"{link_of_mail()}?next=https://evil.test/")
    assert answer.url == reverse("account_login")
