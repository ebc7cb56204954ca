"""What `manage.py check --deploy` says about people."""

import pytest

from accounts.checks import confirmations_arrive


@pytest.mark.parametrize(
    ("sign_up", "verification", "backend", "warned"),
    [
        ("open", "mandatory", "console", True),
        ("closed", "mandatory", "console", False),
        ("open", "optional", "console", False),
        ("open", "mandatory", "smtp", False),
    ],
)
def test_a_portal_that_sends_no_mail_asks_nobody_to_look_for_it(settings, sign_up, verification, backend, warned):
    settings.SIGN_UP, settings.ACCOUNT_EMAIL_VERIFICATION = sign_up, verification
    settings.EMAIL_BACKEND = f"django.core.mail.backends.{backend}.EmailBackend"
    assert bool(confirmations_arrive()) is warned
