"""Signing up, in and out, and what people change about themselves."""

import re

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, Role, User
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_limits():
    cache.clear()


def sign_up(client, **values):
    data = {"username": "grace", "email": "grace@uni.test", "password1": "an admirable compiler", **values}
    return client.post(reverse("account_signup"), data)


def confirm(client):
    """Open the link of the last mail and press its button."""
    link = re.search(r"https?://[^/]+(/\S+)", mail.outbox[-1].body)[1]
    assert "Confirm</button>" in client.get(link).content.decode()
    return client.post(link)


def test_whoever_signs_up_is_a_student_and_signed_in_when_the_address_is_confirmed(client):
    assert sign_up(client).url == reverse("account_email_verification_sent")
    user = User.objects.get(username="grace")
    assert (user.role, user.is_staff, user.is_superuser) == (Role.STUDENT, False, False)
    assert client.get("/").status_code == 302
    assert confirm(client).url == "/"
    assert client.get("/").status_code == 200
    assert {"user.signed_up", "user.signed_in"} <= set(AuditEntry.objects.values_list("action", flat=True))
    assert AuditEntry.objects.get(action="user.signed_in").address == "127.0.0.1"


def test_nothing_is_done_before_the_address_is_confirmed(client):
    sign_up(client)
    for _ in range(2):
        answer = client.post(reverse("account_login"), {"login": "grace", "password": "an admirable compiler"})
        assert answer.url == reverse("account_email_verification_sent")
        assert client.get("/").status_code == 302
    assert len(mail.outbox) == 1  # the second within three minutes is not sent


def test_the_link_of_a_confirmation_signs_nobody_in_elsewhere(client):
    sign_up(client)
    elsewhere = Client()
    assert confirm(elsewhere).url == reverse("account_login")
    assert elsewhere.get("/").status_code == 302
    assert EmailAddress.objects.get(user__username="grace").verified


@pytest.mark.parametrize("email", ["", "ada@uni.test"])
def test_what_others_wrote_down_needs_no_confirming(client, email):
    make_user("ada", email=email)
    EmailAddress.objects.all().delete()
    assert client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD}).url == "/"


def test_where_signing_up_is_closed_nobody_does(client, settings):
    settings.SIGN_UP = "closed"
    assert reverse("account_signup") not in client.get(reverse("account_login")).content.decode()
    in_the_frame(client.get(reverse("account_signup")).content.decode(), "Signing up is closed")
    sign_up(client)
    assert not User.objects.exists()


def test_nobody_signs_up_as_staff(client):
    sign_up(client, role="staff", is_staff="on", is_superuser="on")
    user = User.objects.get(username="grace")
    assert user.role == Role.STUDENT and not user.is_staff and not user.is_superuser


@pytest.mark.parametrize("username", ["\u0430lice", "-x", ".x", "a b", "a+b", "\u00e9ve"])
def test_a_user_name_is_in_plain_letters(client, username):
    page = sign_up(client, username=username).content.decode()
    assert "begins with a letter or a digit" in page and not User.objects.exists()


@pytest.mark.parametrize("username", ["Grace", "9grace", "g.race_h-1"])
def test_a_user_name_may_have_capitals_digits_dots_and_dashes(client, username):
    assert sign_up(client, username=username).status_code == 302
    assert User.objects.filter(username__iexact=username).exists()


def test_signing_up_leads_back_to_where_one_came_from(client):
    text = client.get(reverse("account_login") + "?next=/join/abc/").content.decode()
    assert "/accounts/signup/?next=%2Fjoin%2Fabc%2F" in text
    sign_up(client, next="/join/abc/")
    assert confirm(client).url == "/join/abc/"


HEADER = re.compile(r'<a class="btn btn-(?:plain|quiet d-none d-sm-inline-flex)" href="(/accounts/[^"]+)">')


@pytest.mark.parametrize(
    ("page", "back"),
    [
        ("/join/abc/?a=1&b=2", "?next=%2Fjoin%2Fabc%2F%3Fa%3D1%26b%3D2"),
        ("/accounts/login/?next=/join/abc/", "?next=%2Fjoin%2Fabc%2F"),
        ("/accounts/signup/?next=/join/abc/", "?next=%2Fjoin%2Fabc%2F"),
        ("/accounts/password/reset/", ""),
    ],
)
def test_the_links_at_the_top_lead_back_to_where_one_was(client, page, back):
    assert HEADER.findall(client.get(page).content.decode()) == [reverse("account_login") + back, reverse("account_signup") + back]


def test_the_links_at_the_top_lead_to_no_page_that_only_takes_clicks(client):
    answer = Client(enforce_csrf_checks=True).post(reverse("account_logout"))
    assert answer.status_code == 403
    assert HEADER.findall(answer.content.decode()) == [reverse("account_login"), reverse("account_signup")]


def test_a_weak_password_is_refused_beside_its_field(client):
    text = sign_up(client, password1="password").content.decode()
    assert "too short" in text and 'aria-invalid="true"' in text
    assert not User.objects.exists()


@pytest.mark.parametrize("login", ["ada", "ada@uni.test"])
def test_one_signs_in_by_name_or_address(client, login):
    make_user("ada")
    assert client.post(reverse("account_login"), {"login": login, "password": PASSWORD}).url == "/"


@pytest.mark.parametrize(("role", "home"), [("student", "machines:mine"), ("teacher", "classes:list"), ("staff", "machines:machines")])
def test_everybody_begins_where_their_work_is_unless_they_were_on_their_way(client, role, home):
    make_user("grace", role=role)
    data = {"login": "grace", "password": PASSWORD}
    assert client.post(reverse("account_login"), data).url == reverse(home)
    client.logout()
    assert client.post(reverse("account_login"), data | {"next": "/operations/"}).url == "/operations/"


def test_a_wrong_password_says_so_and_nothing_more(client):
    make_user("ada")
    for login in ("ada", "nobody"):
        text = client.post(reverse("account_login"), {"login": login, "password": "wrong"}).content.decode()
        assert "not correct" in text


def test_a_forgotten_password_is_replaced_by_mail(client):
    make_user("ada")
    assert "Look into your mail" in client.post(reverse("account_reset_password"), {"email": "ada@uni.test"}, follow=True).content.decode()
    assert mail.outbox[0].subject.startswith("[labportal] ")
    link = re.search(r"https?://[^/]+(/\S+)", mail.outbox[0].body)[1]
    form = client.get(link, follow=True)
    done = client.post(form.redirect_chain[-1][0], {"password1": "an admirable compiler", "password2": "an admirable compiler"}, follow=True)
    assert done.status_code == 200
    assert client.login(username="ada", password="an admirable compiler")


@pytest.fixture
def no_mail(settings):
    """As without EMAIL_URL."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"


def test_a_mail_to_confirm_the_address_is_announced(client):
    assert "is on its way to grace@uni.test" in client.get(sign_up(client).url).content.decode()
    assert len(mail.outbox) == 1


@pytest.mark.usefixtures("no_mail")
def test_no_mail_is_promised_where_none_is_sent(client):
    assert 'class="note' not in client.get(sign_up(client).url).content.decode()
    assert "Send the confirmation again" not in client.get(reverse("account_email")).content.decode()
    client.logout()
    asked = client.get(reverse("account_reset_password")).content.decode()
    assert "Send the link" not in asked
    done = client.post(reverse("account_reset_password"), {"email": "grace@uni.test"}, follow=True).content.decode()
    for page in (asked, done):
        assert "This portal sends no mail. Ask your teacher, or the people who run the portal, for a new password." in page
        assert "on its way" not in page
    assert "to confirm it" in client.get(reverse("account_email_verification_sent")).content.decode()


def test_an_unknown_address_gets_the_same_answer(client):
    known, unknown = make_user("ada").email, "nobody@uni.test"
    pages = [client.post(reverse("account_reset_password"), {"email": email}, follow=True).content for email in (known, unknown)]
    assert pages[0] == pages[1]


def test_signing_out_needs_a_click(client):
    client.force_login(make_user())
    assert "Your machines go on" in client.get(reverse("account_logout")).content.decode()
    assert client.get("/").status_code == 200
    client.post(reverse("account_logout"))
    assert client.get("/").status_code == 302


def test_one_changes_name_and_keyboard_and_nothing_else(client):
    user = make_user()
    client.force_login(user)
    page = reverse("accounts:profile")
    assert client.post(page, {"first_name": "Ada", "last_name": "Lovelace", "keyboard": "ch-fr", "role": "staff"}).status_code == 302
    user.refresh_from_db()
    assert (str(user), user.keyboard, user.role) == ("Ada Lovelace", "ch-fr", Role.STUDENT)
    assert client.post(page, {"keyboard": "klingon"}).status_code == 200
    user.refresh_from_db()
    assert user.keyboard == "ch-fr"


def test_the_admin_is_entered_through_the_portals_own_page(client):
    response = client.get("/admin/login/", follow=True)
    assert response.redirect_chain[-1][0].startswith(reverse("account_login"))
    client.force_login(make_user())
    assert client.get("/admin/login/").status_code == 403


def in_the_frame(text, *words):
    assert 'class="top"' in text and text.count("<h1") == 1 and "placeholder=" not in text
    for said in words:
        assert said in text


@pytest.mark.parametrize(
    "name",
    ["account_login", "account_signup", "account_reset_password", "account_reset_password_done", "account_email_verification_sent", "account_inactive"],
)
def test_every_page_of_allauth_is_in_the_portals_frame(client, name):
    in_the_frame(client.get(reverse(name)).content.decode())


@pytest.mark.parametrize("name", ["account_change_password", "account_set_password", "account_email", "account_logout", "account_reauthenticate"])
def test_so_is_every_page_about_ones_own_account(client, name):
    user = make_user()
    client.force_login(user)
    if name == "account_set_password":
        user.set_unusable_password()
        user.save()
        client.force_login(user)
    answer = client.get(reverse(name))
    assert answer.status_code == 200
    in_the_frame(answer.content.decode())


def test_so_are_the_pages_links_in_mails_lead_to(client):
    sign_up(client)
    link = re.search(r"https?://[^/]+(/\S+)", mail.outbox[0].body)[1]
    in_the_frame(client.get(link).content.decode(), "Confirm your e-mail address", "<strong>grace@uni.test</strong>")
    client.post(link)
    in_the_frame(client.get(link).content.decode(), "This link does not work any more")
    key = reverse("account_reset_password_from_key", args=["1", "abc-123"])
    in_the_frame(client.get(key).content.decode(), "This link does not work any more", "Get a new link")
    in_the_frame(client.get(reverse("account_reset_password_from_key_done")).content.decode(), "Your password is changed")


# -- how often ---------------------------------------------------------------------------------


def sign_in(client, login, password=PASSWORD, address="192.0.2.1"):
    return client.post(reverse("account_login"), {"login": login, "password": password}, REMOTE_ADDR=address)


def test_a_lecture_hall_signs_in_and_up_from_one_address(client):
    students = [make_user() for _ in range(100)]
    for number, student in enumerate(students):
        assert sign_in(client, student.username).status_code == 302
        client.logout()
        assert sign_up(client, username=f"new{number}", email=f"new{number}@uni.test").status_code == 302
        client.logout()


@pytest.mark.parametrize("login", ["ada", "ada@uni.test"])
def test_the_sixth_wrong_password_of_an_account_is_refused_and_so_is_the_right_one(client, login):
    make_user("ada"), make_user("bob")
    pages = [sign_in(client, login, "wrong") for _ in range(6)]
    assert ["not correct" in page.content.decode() for page in pages] == [True] * 5 + [False]
    for page in (pages[-1], sign_in(client, login)):
        text = page.content.decode()
        in_the_frame(text, "Too many wrong passwords for this account. Wait five minutes, then try again.")
        assert 'role="alert"' in text
    assert sign_in(client, "bob").status_code == 302


@pytest.mark.parametrize("email", ["ada@uni.test", "nobody@uni.test"])
def test_a_postbox_is_not_flooded_and_a_lecture_hall_is_not_kept_out(client, email):
    make_user("ada")
    others = [make_user() for _ in range(100)]
    answers = [client.post(reverse("account_reset_password"), {"email": email}) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [302, 302, 302, 429]
    in_the_frame(answers[-1].content.decode(), "Too many tries")
    sent = len(mail.outbox)
    assert sent == 3
    for other in others:
        assert client.post(reverse("account_reset_password"), {"email": other.email}).status_code == 302
    assert len(mail.outbox) == sent + 100


def test_wrong_passwords_are_not_forgotten_over_those_of_others(client):
    make_user("ada")
    for _ in range(5):
        sign_in(client, "ada", "wrong")
    for number in range(1000):
        cache.set(f"counter-{number}", [0.0])
    assert "Too many wrong passwords" in sign_in(client, "ada").content.decode()


def test_a_right_password_does_not_count_as_a_try(client):
    make_user("ada")
    for _ in range(10):
        assert sign_in(client, "ada").status_code == 302
        client.logout()


def test_a_network_that_tries_too_much_reads_what_to_do(client, settings):
    settings.ACCOUNT_RATE_LIMITS = settings.ACCOUNT_RATE_LIMITS | {"login": "1/5m/ip"}
    answers = [sign_in(client, "nobody") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    in_the_frame(answers[1].content.decode(), "Too many tries", "Wait five minutes, then try again.")
