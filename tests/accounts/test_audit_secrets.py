"""No secret is in the record, in the history of the admin or in a log, on any of the ways secrets take through the portal."""

import logging
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry, User
from accounts.services import tokens
from machines.lifecycle import State
from machines.models import Cluster
from tests.accounts.test_second_factor import set_up_app
from tests.factories import PASSWORD, make_machine, make_user

pytestmark = pytest.mark.django_db

FIRST, WRONG, SECOND, OF_CLUSTER, OF_MACHINE = (f"M4rked-{what}-Secret" for what in ("First", "Wrong", "Second", "Cluster", "Machine"))


@pytest.fixture
def nothing_tells(caplog):
    """Ask it whether any of the secrets came out anywhere."""
    cache.clear()
    caplog.set_level(logging.DEBUG)  # as LOG_LEVEL=DEBUG does; what LOGGING and Django keep quieter stays so

    def check(*secrets):
        assert AuditEntry.objects.exists()
        told = f"{list(AuditEntry.objects.values())} {list(LogEntry.objects.values())} {caplog.text}"
        for secret in secrets:
            assert len(secret) >= 6
            assert secret not in told

    return check


def link_in_mail(path):
    return re.search(rf"https?://[^/\s]+({path}\S+)", mail.outbox[-1].body)[1]


def test_of_passwords(nothing_tells, client):
    client.post(reverse("account_signup"), {"username": "grace", "email": "grace@uni.test", "password1": FIRST})
    grace = User.objects.get()
    grace.emailaddress_set.update(verified=True)
    confirmation = mail.outbox[-1].body.split("/confirm-email/")[1].split("/")[0] if mail.outbox else "none-was-sent"
    client = Client()
    for login, password in (("grace", WRONG), (WRONG, "grace"), (FIRST, FIRST), ("grace", FIRST)):
        client.post(reverse("account_login"), {"login": login, "password": password})
    assert client.get("/").status_code == 200
    client.post(reverse("account_reauthenticate"), {"password": WRONG})
    client.post(reverse("account_change_password"), {"oldpassword": WRONG, "password1": SECOND, "password2": SECOND})
    client.post(reverse("account_change_password"), {"oldpassword": FIRST, "password1": SECOND, "password2": SECOND})
    grace.refresh_from_db()
    assert grace.check_password(SECOND)
    session = client.session.session_key
    Client().post(reverse("account_reset_password"), {"email": "grace@uni.test"})
    key = link_in_mail("/accounts/password/reset/key/").rstrip("/").split("/")[-1]
    Client().get(link_in_mail("/accounts/password/reset/key/"))
    Client().post(reverse("account_login") + "?password=" + WRONG, {"login": "grace", "password": WRONG})
    nothing_tells(FIRST, WRONG, SECOND, grace.password, session, key, confirmation)


def test_of_machines_and_clusters(nothing_tells, client):
    staff = make_user("eve", role="staff")
    client.force_login(staff)
    settings = {"kind": "simulator", "name": "lab", "config": '{"socket": "/tmp/simulator.sock"}', "networks": "", "new_secret": OF_CLUSTER}
    limits = {"limit_create": 4, "limit_power": 8, "limit_per_template": 4, "limit_booting": 0, "stop_deadline": 60}
    limits |= {"limit_create_per_node": 0, "limit_create_per_storage": 0, "limit_power_per_node": 0}
    client.post(reverse("admin:machines_cluster_add"), settings | limits)
    client.post(reverse("admin:machines_cluster_change", args=[Cluster.objects.get().pk]), settings | limits | {"new_secret": OF_CLUSTER + "2"})
    assert Cluster.objects.get().secret == OF_CLUSTER + "2"
    machine = make_machine(owner=staff, state=State.RUNNING, password=OF_MACHINE, ssh_private_key=OF_MACHINE + "-key")
    assert OF_MACHINE in client.post(reverse("machines:credentials", args=[machine.key])).content.decode()
    ticket = client.post(reverse("console:ticket", args=[machine.key]), {"kind": "screen"}).json()
    nothing_tells(OF_CLUSTER, OF_MACHINE, ticket["token"])


def test_of_tokens(nothing_tells):
    token, secret = tokens.make(make_user("ada"), name="job", scopes=["read"], expires_at=timezone.now() + timedelta(days=1))
    tokens.authenticate(secret, address="192.0.2.7")
    with pytest.raises(tokens.Unauthorised):
        tokens.authenticate(secret[:-1] + ("0" if secret[-1] != "0" else "1"), address=None)
    tokens.record_refusal(secret, code="token_revoked")
    nothing_tells(secret, token.digest)


@pytest.mark.django_db(transaction=True)
def test_of_second_factors(nothing_tells, client):
    make_user("ada")
    client.post(reverse("account_login"), {"login": "ada", "password": PASSWORD})
    client.get(reverse("mfa_activate_totp"))
    client.post(reverse("mfa_activate_totp"), {"code": "000000"})
    secret = set_up_app(client)
    codes = re.findall(r"\b[0-9a-f]{5}-?[0-9a-f]{5}\b|\b\d{8}\b", client.get(reverse("mfa_view_recovery_codes")).content.decode())
    assert "second_factor.added" in AuditEntry.objects.values_list("action", flat=True)
    assert codes
    nothing_tells(secret, *codes)
