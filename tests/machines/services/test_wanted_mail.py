"""People say which mails they want."""

import pytest

from machines.models import RequestMail
from machines.services import outbox
from tests.factories import make_request, make_user

pytestmark = pytest.mark.django_db


def written(what, **wants):
    request = make_request(make_user("ada", **wants))
    outbox.post(request, what)
    return RequestMail.objects.filter(to="ada@uni.test").exists()


@pytest.mark.parametrize("what", ["approved", "rejected", "ready", "failed"])
def test_what_became_of_a_request_is_mailed_to_those_who_want_it(what):
    assert not written(what, mail_decisions=False)


@pytest.mark.parametrize("what", ["ending", "ended"])
def test_the_last_day_is_mailed_to_those_who_want_it(what):
    assert not written(what, mail_reminders=False)


@pytest.mark.parametrize(("what", "other"), [("approved", "mail_reminders"), ("ending", "mail_decisions")])
def test_not_wanting_one_kind_keeps_the_other(what, other):
    assert written(what, **{other: False})


def test_staff_who_want_no_mail_about_requests_get_none():
    make_user("sam", role="staff")
    make_user("tired", role="staff", mail_staff=False)
    outbox.post_to_staff(make_request(make_user("ada")), "failed_staff")
    assert list(RequestMail.objects.values_list("to", flat=True)) == ["sam@uni.test"]
