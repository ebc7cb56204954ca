"""The console pages and the tickets they ask for: who gets what, and in which words."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from console import selectors
from console.models import ConsoleTicket
from console.services import tickets
from machines.lifecycle import State
from tests.factories import make_machine, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada():
    return make_user("ada", keyboard="ch-fr")


@pytest.fixture
def machine(ada):
    return make_machine("web", owner=ada, state=State.RUNNING, ssh_private_key="very-secret-key", password="very-secret-password")


@pytest.fixture
def client(ada):
    client = Client()
    client.force_login(ada)
    return client


def url(name, machine):
    return reverse(f"console:{name}", args=[machine.key])


def ask(client, machine, **form):
    return client.post(url("ticket", machine), {"kind": "screen"} | form)


WHO = {"owner": 200, "student": 404, "teacher": 404, "staff": 200, "nobody": 302}


@pytest.mark.parametrize("name", ["screen", "terminal", "state"])
@pytest.mark.parametrize(("who", "status"), WHO.items())
def test_pages_are_for_who_may_see_the_machine(ada, machine, name, who, status):
    client = Client()
    if who != "nobody":
        client.force_login(ada if who == "owner" else make_user(role=who))
    assert client.get(url(name, machine)).status_code == status


@pytest.mark.parametrize(("who", "status"), (WHO | {"nobody": 401}).items())
def test_so_are_tickets(ada, machine, who, status):
    client = Client()
    if who != "nobody":
        client.force_login(ada if who == "owner" else make_user(role=who))
    assert ask(client, machine).status_code == status
    assert ConsoleTicket.objects.count() == (status == 200)


@pytest.mark.parametrize("name", ["screen", "terminal", "state", "ticket"])
def test_a_destroyed_machine_is_not_there(client, machine, name):
    machine.state = State.DESTROYED
    machine.save()
    call = client.post if name == "ticket" else client.get
    assert call(url(name, machine)).status_code == 404


def test_pages_are_for_get_and_tickets_for_post(client, machine):
    assert client.get(url("ticket", machine)).status_code == 405
    for name in ("screen", "terminal", "state"):
        assert client.post(url(name, machine)).status_code == 405


def test_a_ticket_needs_the_token_against_forgery(ada, machine):
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    assert ask(client, machine).status_code == 403
    assert not ConsoleTicket.objects.exists()


def test_a_ticket_is_what_the_websocket_takes(client, ada, machine):
    answer = ask(client, machine, view_only="1")
    assert answer.headers["Cache-Control"].count("no-store")
    ticket = tickets.redeem(answer.json()["token"], user=ada, kind="screen")
    assert ticket.view_only


@pytest.mark.parametrize("form", [{"kind": ""}, {"kind": "spice"}, {"kind": "terminal", "view_only": "1"}])
def test_what_there_is_not_is_refused(client, machine, form):
    assert ask(client, machine, **form).status_code == 400


def test_a_machine_that_is_off_says_so(client, machine):
    machine.state, machine.power = State.STOPPED, "off"
    machine.save()
    answer = ask(client, machine)
    assert (answer.status_code, answer.json()["code"]) == (409, "machine_off")
    assert "Start the machine first" in answer.json()["text"]
    page = client.get(url("screen", machine))
    assert page.status_code == 200  # it offers to start
    assert 'data-on="0"' in page.text


def test_too_many_are_refused(client, machine, monkeypatch):
    monkeypatch.setattr(tickets, "PER_MINUTE", 1)
    ask(client, machine)
    answer = ask(client, machine)
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many")


@pytest.mark.parametrize("name", ["screen", "terminal"])
def test_pages_hold_no_secret_and_no_inline_code(client, machine, name):
    page = client.get(url(name, machine)).text
    assert "very-secret" not in page
    assert not re.search(r"\sstyle=|\son\w+=|<style", page)
    assert all('src="' in tag or 'type="application/json"' in tag for tag in re.findall(r"<script[^>]*>", page))


def test_only_the_terminals_policy_has_a_nonce_and_it_is_for_styles(client, machine):
    policies = {name: client.get(url(name, machine)).headers["Content-Security-Policy"] for name in ("screen", "terminal", "terminal")}
    assert "nonce-" not in policies["screen"]
    assert re.search(r"style-src 'self' 'nonce-[^']+'", policies["terminal"])
    assert policies["terminal"].count("nonce-") == 1
    assert not any("unsafe" in policy for policy in policies.values())
    assert client.get(url("terminal", machine)).headers["Content-Security-Policy"] != policies["terminal"]  # new each time


def test_the_layout_is_the_one_the_machine_was_made_with(client, machine, ada):
    assert '<option value="ch-fr" selected>' in client.get(url("screen", machine)).text
    ada.keyboard = "dvorak"
    ada.save()
    assert '<option value="us" selected>' in client.get(url("screen", machine)).text


def test_watching_is_said_and_offers_no_keys(client, machine):
    page = client.get(url("screen", machine) + "?watch=1").text
    assert "Watching" in page
    assert "data-chord" not in page


def test_every_ending_has_words(machine):
    endings = selectors.endings()
    assert all(ending["text"] for ending in endings.values())
    assert {code for code, ending in endings.items() if not ending["again"]} >= {"revoked", "machine_off", "signed_out", "host_key", "left", "exited"}


def test_pages_ask_few_questions(client, machine, django_assert_max_num_queries):
    client.get(url("screen", machine))
    with django_assert_max_num_queries(8):
        client.get(url("screen", machine))
    with django_assert_max_num_queries(5):
        client.get(url("state", machine))
