"""A ticket opens one console of one machine for one person, once, soon."""

import threading
from datetime import timedelta

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection, connections
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.presence import Visit
from accounts.services import audit
from console.models import ConsoleTicket
from console.services import tickets
from machines.lifecycle import State
from machines.providers.types import ConsoleKind
from machines.services.refusal import Refused
from tests.factories import make_machine, make_user

SCREEN, TERMINAL = ConsoleKind.SCREEN, ConsoleKind.TERMINAL
pytestmark = pytest.mark.django_db


@pytest.fixture
def ada():
    return make_user("ada")


@pytest.fixture
def machine(ada):
    return make_machine("web", owner=ada, state=State.RUNNING, ssh_private_key="key")


@pytest.fixture
def session(db):
    session = SessionStore()
    session.create()
    return session


def review(ticket, session):
    """What is due for one console that is open by this session."""
    visit = Visit(session.session_key, ticket.user_id, ticket.user.get_session_auth_hash())
    return tickets.review({ticket.pk: visit}).get(ticket.pk, "")


def issue(user, machine, kind=SCREEN, **options):
    return tickets.issue(acting_user=user, machine=machine, kind=kind, **options).token


def refused(code, call, *args, **options):
    with pytest.raises(Refused) as refusal:
        call(*args, **options)
    assert refusal.value.code == code
    assert refusal.value.message


def test_a_ticket_opens_the_console_it_was_made_for(ada, machine):
    with audit.origin(address="192.0.2.7"):
        ticket = tickets.redeem(issue(ada, machine, view_only=True), user=ada, kind=SCREEN)
    assert (ticket.machine, ticket.user, ticket.view_only) == (machine, ada, True)
    entry = AuditEntry.objects.get(action="console.open")
    assert (entry.actor, entry.object_id, entry.address, entry.outcome) == (ada, str(machine.key), "192.0.2.7", "ok")
    assert entry.data == {"kind": "screen", "view_only": True}


def test_only_the_hash_is_kept(ada, machine):
    token = issue(ada, machine)
    row = ConsoleTicket.objects.values().get()
    assert token not in str(row)
    assert len(token) >= 43  # 32 bytes in base64


def test_it_is_used_once(ada, machine):
    token = issue(ada, machine)
    tickets.redeem(token, user=ada, kind=SCREEN)
    refused("ticket", tickets.redeem, token, user=ada, kind=SCREEN)
    assert AuditEntry.objects.filter(action="console.open").count() == 1


def test_it_expires_after_a_minute(ada, machine, time_machine):
    start = timezone.now()
    time_machine.move_to(start, tick=False)
    first, second = issue(ada, machine), issue(ada, machine)
    time_machine.move_to(start + timedelta(seconds=59), tick=False)
    tickets.redeem(first, user=ada, kind=SCREEN)
    time_machine.move_to(start + timedelta(seconds=60), tick=False)
    refused("ticket", tickets.redeem, second, user=ada, kind=SCREEN)


def test_it_is_worth_nothing_to_others_and_stays_good_for_its_owner(ada, machine):
    token = issue(ada, machine)
    refused("ticket", tickets.redeem, token, user=make_user(), kind=SCREEN)
    refused("ticket", tickets.redeem, token, user=make_user(role="staff"), kind=SCREEN)
    refused("ticket", tickets.redeem, token, user=ada, kind=TERMINAL)
    tickets.redeem(token, user=ada, kind=SCREEN)


@pytest.mark.parametrize("token", ["", "x", "0" * 43, "ä" * 43, "\x00", "a" * 100_000])
def test_what_is_no_ticket_is_refused(ada, machine, token):
    issue(ada, machine)
    refused("ticket", tickets.redeem, token, user=ada, kind=SCREEN)


def test_it_does_not_open_a_machine_that_was_taken_away_meanwhile(ada, machine):
    token = issue(ada, machine)
    machine.owner = make_user()
    machine.save()
    refused("revoked", tickets.redeem, token, user=ada, kind=SCREEN)
    assert AuditEntry.objects.get(action="console.open").outcome == "revoked"
    refused("ticket", tickets.redeem, token, user=ada, kind=SCREEN)  # used up all the same


def test_it_does_not_open_a_machine_that_went_off_meanwhile(ada, machine):
    token = issue(ada, machine)
    machine.state, machine.power = State.STOPPED, "off"
    machine.save()
    refused("machine_off", tickets.redeem, token, user=ada, kind=SCREEN)


@pytest.mark.parametrize(
    ("state", "power", "on"),
    [
        (State.RUNNING, "on", True),
        (State.RUNNING, "unknown", True),
        (State.STARTING, "on", True),
        (State.STOPPING, "on", True),
        (State.RESTARTING, "on", True),
        (State.UPDATING, "on", True),
        (State.FAILED, "on", True),
        (State.STARTING, "off", False),
        (State.UPDATING, "off", False),
        (State.STOPPED, "off", False),
        (State.FAILED, "off", False),
        (State.MISSING, "unknown", False),
        (State.PENDING, "unknown", False),
        (State.PROVISIONING, "off", False),
    ],
)
def test_a_console_needs_a_machine_that_is_on(ada, state, power, on):
    machine = make_machine(owner=ada, state=state, power=power)
    machine.power = power
    machine.save()
    if on:
        assert issue(ada, machine)
    else:
        refused("machine_off", issue, ada, machine)


def test_a_terminal_needs_a_key(ada):
    machine = make_machine(owner=ada, state=State.RUNNING)
    refused("no_terminal", issue, ada, machine, TERMINAL)
    assert issue(ada, machine, SCREEN)


def test_tickets_per_minute_are_limited(ada, machine, time_machine, monkeypatch):
    monkeypatch.setattr(tickets, "PER_MINUTE", 3)
    start = timezone.now()
    time_machine.move_to(start, tick=False)
    for _ in range(3):
        issue(ada, machine)
    refused("too_many", issue, ada, machine)
    grace = make_user()
    assert issue(grace, make_machine(owner=grace, state=State.RUNNING))
    time_machine.move_to(start + timedelta(seconds=61), tick=False)
    assert issue(ada, machine)


def test_open_consoles_are_limited_and_those_of_dead_processes_do_not_count(ada, machine, session, time_machine, monkeypatch):
    monkeypatch.setattr(tickets, "OPEN_AT_ONCE", 2)
    start = timezone.now()
    time_machine.move_to(start, tick=False)
    first, _second = (tickets.redeem(issue(ada, machine), user=ada, kind=SCREEN) for _ in range(2))
    refused("too_many", issue, ada, machine)
    tickets.end(first, "left")
    third = tickets.redeem(issue(ada, machine), user=ada, kind=SCREEN)
    time_machine.move_to(start + timedelta(seconds=40), tick=False)
    assert review(third, session) == ""
    time_machine.move_to(start + timedelta(seconds=80), tick=False)
    assert issue(ada, machine)  # the second was not looked at for 80 s, the third 40 s ago


def test_tickets_that_were_saved_up_open_no_more_consoles_than_others(ada, machine, monkeypatch):
    monkeypatch.setattr(tickets, "OPEN_AT_ONCE", 2)
    first, second, third, fourth = [issue(ada, machine) for _ in range(4)]
    opened = tickets.redeem(first, user=ada, kind=SCREEN)
    tickets.redeem(second, user=ada, kind=SCREEN)
    refused("too_many", tickets.redeem, third, user=ada, kind=SCREEN)
    assert AuditEntry.objects.filter(action="console.open").latest("id").outcome == "too_many"
    tickets.end(opened, "left")
    tickets.redeem(fourth, user=ada, kind=SCREEN)
    grace = make_user()
    tickets.redeem(issue(grace, make_machine(owner=grace, state=State.RUNNING)), user=grace, kind=SCREEN)


def test_rights_are_looked_at_again(ada, machine, session):
    ticket = tickets.redeem(issue(ada, machine), user=ada, kind=SCREEN)
    assert review(ticket, session) == ""
    machine.state, machine.power = State.STOPPED, "off"
    machine.save()
    assert review(ticket, session) == "machine_off"
    machine.state, machine.owner = State.RUNNING, make_user()
    machine.save()
    assert review(ticket, session) == "revoked"
    ada.is_active = False
    ada.save()
    assert review(ticket, session) == "signed_out"


def test_signing_out_ends_the_console(ada, machine, session):
    ticket = tickets.redeem(issue(ada, machine), user=ada, kind=SCREEN)
    session.delete()
    assert review(ticket, session) == "signed_out"
    assert review(ticket, SessionStore()) == "signed_out"


def test_the_record_keeps_the_first_ending(ada, machine, session):
    ticket = tickets.redeem(issue(ada, machine), user=ada, kind=SCREEN)
    tickets.end(ticket, "machine_off")
    tickets.end(ticket, "closed")
    ticket.refresh_from_db()
    assert ticket.ending == "machine_off"
    assert review(ticket, session) == "revoked"  # somebody ended it elsewhere


def test_old_rows_are_swept_and_open_consoles_are_not(ada, machine, session, time_machine):
    start = timezone.now()
    time_machine.move_to(start, tick=False)
    issue(ada, machine)
    ended = tickets.redeem(issue(ada, machine), user=ada, kind=SCREEN)
    tickets.end(ended, "left")
    still_open = tickets.redeem(issue(ada, machine), user=ada, kind=SCREEN)
    time_machine.move_to(start + timedelta(hours=25), tick=False)
    review(still_open, session)
    issue(ada, machine)
    assert ConsoleTicket.objects.filter(created_at__lte=start).get() == still_open


def test_of_many_at_once_exactly_one_succeeds(file_database, ada, machine):
    won, lost = redeem_at_once([issue(ada, machine)] * 8, ada)
    assert (won, lost) == (1, ["ticket"] * 7)


def test_of_many_tickets_at_once_as_many_succeed_as_may_be_open(file_database, ada, machine, monkeypatch):
    monkeypatch.setattr(tickets, "OPEN_AT_ONCE", 3)
    won, lost = redeem_at_once([issue(ada, machine) for _ in range(8)], ada)
    assert (won, lost) == (3, ["too_many"] * 5)


def redeem_at_once(tokens, user):
    """How many were redeemed, and why the others were not. Each thread has a connection of its own, as each web process has."""
    barrier, won, lost = threading.Barrier(len(tokens)), [], []

    def attempt(token):
        try:
            barrier.wait()
            won.append(tickets.redeem(token, user=user, kind=SCREEN))
        except Refused as refusal:
            lost.append(refusal.code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=attempt, args=[token]) for token in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(won), lost


def test_redeeming_needs_few_queries(ada, machine, session, django_assert_max_num_queries):
    token = issue(ada, machine)
    with django_assert_max_num_queries(7 + (2 if connection.features.uses_savepoints else 0)):
        tickets.redeem(token, user=ada, kind=SCREEN)


def test_a_hundred_consoles_are_looked_at_together(session, django_assert_num_queries):
    visits = {}
    for number in range(100):
        user = make_user()
        ticket = ConsoleTicket.objects.create(digest=str(number), user=user, machine=make_machine(owner=user, state=State.RUNNING), expires_at=timezone.now())
        visits[ticket.pk] = Visit(session.session_key, user.pk, user.get_session_auth_hash())
    with django_assert_num_queries(5):
        assert tickets.review(visits) == {}
    assert not ConsoleTicket.objects.filter(seen_at=None).exists()


def test_each_console_is_judged_by_itself(ada, machine, session):
    """Of one look: an owner's, a stranger's, a member of staff's, one whose password was changed."""
    grace, root, eve = make_user("grace"), make_user("root", role="staff"), make_user("eve")
    of = {}
    for user in (ada, grace, root, eve):
        ticket = ConsoleTicket.objects.create(digest=user.username, user=user, machine=machine, kind=SCREEN, expires_at=timezone.now())
        of[user] = (ticket.pk, Visit(session.session_key, user.pk, user.get_session_auth_hash()))
    eve.set_password("another one")
    eve.save()
    assert tickets.review(dict(of.values())) == {of[grace][0]: "revoked", of[eve][0]: "signed_out"}
    assert set(ConsoleTicket.objects.exclude(seen_at=None).values_list("user__username", flat=True)) == {"ada", "root"}
