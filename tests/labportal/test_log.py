"""What is written to the log."""

import pytest
from django.test import Client

from labportal.log import loggable_path

pytestmark = pytest.mark.django_db


def test_a_host_name_that_is_not_ours_is_one_line_and_no_error(client, caplog):
    answer = client.get("/", headers={"host": "evil.test"})
    assert answer.status_code == 400 and b"did not understand" in answer.content
    (record,) = [record for record in caplog.records if "evil.test" in record.getMessage()]
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("level", ["WARNING", "ERROR"])
def test_a_request_that_fails_is_logged_without_its_key(caplog, monkeypatch, level):
    client = Client(enforce_csrf_checks=level == "WARNING", raise_request_exception=False)
    if level == "ERROR":
        monkeypatch.setattr("classes.services.invites.by_link", lambda token: 1 / 0)
    client.post("/join/ABCDEFGH.a-signature-that-is-long-enough/")
    (record,) = [record for record in caplog.records if "/join/" in record.getMessage()]
    assert (record.levelname, record.getMessage().endswith("/join/…/")) == (level, True)
    assert "ABCDEFGH" not in caplog.text


@pytest.mark.parametrize(
    "uri, logged",
    [
        ("/machines/2b6a2a9c-3f0e-4c58-9d9c-1f9e1a6d7c11/?ticket=abc", "/machines/2b6a2a9c-3f0e-4c58-9d9c-1f9e1a6d7c11/"),
        ("/join/dGhpcyBpcyBhIHNlY3JldCB0b2tlbg/", "/join/…/"),
        ("/accounts/password/reset/key/1-c3z5q2-0123456789abcdef0123456789abcdef/", "/accounts/password/reset/key/…/"),
        ("/static/labportal/css/site.0123456789abcdef.css", "/static/labportal/css/site.0123456789abcdef.css"),
        ("/?next=/join/secret", "/"),
    ],
)
def test_the_log_says_where_but_not_with_which_key(uri, logged):
    assert loggable_path(uri) == logged
