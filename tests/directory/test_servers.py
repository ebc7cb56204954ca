"""Servers that fail hold nobody up, and a certificate that is not the university's gets no password."""

import threading
import time
from contextlib import suppress

import ldap
import pytest

from accounts.directory import servers
from accounts.directory.client import Directory
from accounts.directory.config import Attributes
from accounts.directory.servers import RESTING_PATIENCE
from accounts.directory.types import DirectoryError, Unreachable
from tests.authority import Authority
from tests.directory.config import config_for
from tests.slapd import black_hole, free_port, password_of

LONGEST = 3.5  # seconds: three for the directory, and what a busy machine adds


def sign_in(directory, uid="alice"):
    return directory.authenticate(uid, password_of(uid))


def seconds(ask) -> float:
    began = time.monotonic()
    ask()
    return time.monotonic() - began


def unreachable(directory):
    with pytest.raises(Unreachable):
        sign_in(directory)


# -- servers that fail -------------------------------------------------------------------------


def test_a_server_that_is_down_is_passed_over(still_slapd):
    directory = Directory(config_for(still_slapd, f"ldap://127.0.0.1:{free_port()}", still_slapd.uri))
    assert seconds(lambda: sign_in(directory)) < 1
    assert sign_in(directory).name == "alice"


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_a_black_hole_is_given_up_on_in_time_and_then_asked_last(still_slapd, scheme):
    with black_hole() as hole:
        hole = hole.replace("ldap", scheme, 1)
        directory = Directory(config_for(still_slapd, hole, still_slapd.uri))
        assert seconds(lambda: sign_in(directory)) < LONGEST
        assert sign_in(directory).name == "alice"
        assert seconds(lambda: sign_in(directory)) < 0.5


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
@pytest.mark.parametrize("start_tls", [False, True])
def test_nothing_but_black_holes_costs_the_whole_time_once(still_slapd, scheme, start_tls):
    with black_hole() as one, black_hole() as another:
        uris = [hole.replace("ldap", scheme, 1) for hole in (one, another)]
        directory = Directory(config_for(still_slapd, *uris, start_tls=start_tls, ca_file=still_slapd.ca_file, timeout=1.0))
        assert seconds(lambda: unreachable(directory)) < 1.0 + 1.0
        assert seconds(lambda: unreachable(directory)) < 2 * RESTING_PATIENCE + 1.0


def test_a_name_that_nobody_resolves_is_no_server(still_slapd):
    directory = Directory(config_for(still_slapd, "ldap://directory.invalid", still_slapd.uri, allow_plaintext=True))
    assert seconds(lambda: sign_in(directory)) < LONGEST
    assert sign_in(directory).name == "alice"


def test_a_server_that_freezes_and_comes_back(slapd):
    directory = Directory(config_for(slapd, timeout=0.5))
    assert sign_in(directory).name == "alice"
    slapd.freeze()
    for _ in range(3):
        assert seconds(lambda: unreachable(directory)) < LONGEST
    slapd.thaw()
    assert sign_in(directory).name == "alice"


def slowly(answer="yes", *, after):
    """A question that takes the server so many seconds."""

    def question(connection):
        connection.whoami_s()
        threading.Event().wait(after)
        return answer

    return question


def all_at_once(number, ask):
    people = [threading.Thread(target=ask) for _ in range(number)]
    for person in people:
        person.start()
    for person in people:
        person.join()


def test_a_slow_server_that_is_the_only_one_is_asked_as_long_as_before(still_slapd):
    asked = servers.Servers(config_for(still_slapd, timeout=1.0))
    with pytest.raises(Unreachable):
        asked.ask(slowly(after=1.2))
    assert asked.ask(slowly(after=RESTING_PATIENCE + 0.2)) == "yes"


def test_a_server_that_answers_others_does_not_hang(still_slapd):
    with black_hole() as other:
        asked = servers.Servers(config_for(still_slapd, still_slapd.uri, other, timeout=1.0))
        asked.ask(slowly(after=0))
        with pytest.raises(Unreachable):
            asked.ask(slowly(after=0.7))
        assert asked.ask(slowly(after=RESTING_PATIENCE + 0.05)) == "yes" and not asked._rests(still_slapd.uri)


def test_a_full_lecture_hall_does_not_put_a_slow_server_out(still_slapd, monkeypatch):
    """Some wait in vain for their turn; the next one on their own is answered, and so is every one after that."""
    monkeypatch.setattr(servers, "AT_ONCE", 2)
    asked = servers.Servers(config_for(still_slapd, timeout=1.0))
    said = []

    def ask():
        try:
            said.append(asked.ask(slowly(after=0.4)))
        except Unreachable:
            said.append("no")

    all_at_once(12, ask)
    assert {"yes", "no"} == set(said)
    assert not asked._rests(still_slapd.uri)
    said.clear()
    all_at_once(2, ask)
    assert said == ["yes"] * 2


def test_who_had_to_wait_for_their_turn_does_not_say_that_a_server_hangs(still_slapd, monkeypatch):
    monkeypatch.setattr(servers, "AT_ONCE", 1)
    asked = servers.Servers(config_for(still_slapd, timeout=1.0))
    busy = threading.Event()

    def breaks_off(connection):
        busy.set()
        threading.Event().wait(0.8)
        raise ldap.SERVER_DOWN

    def first():
        with suppress(Unreachable):
            asked.ask(breaks_off)

    before = threading.Thread(target=first)
    before.start()
    assert busy.wait(5)
    with pytest.raises(Unreachable, match="does not answer"):
        asked.ask(slowly(after=0.6))
    before.join()
    assert not asked._rests(still_slapd.uri)


def test_where_the_only_server_hangs_one_waits_and_the_others_go_on(still_slapd):
    with black_hole() as hole:
        directory = Directory(config_for(still_slapd, hole, timeout=2.0))
        unreachable(directory)
        took = []
        all_at_once(10, lambda: took.append(seconds(lambda: unreachable(directory))))
        assert sorted(took)[8] < RESTING_PATIENCE + 1.0 and 1.5 < max(took) < LONGEST


def test_a_server_that_goes_in_the_middle_of_a_sign_in(slapd):
    directory = Directory(config_for(slapd))
    is_password = directory._is_password

    def goes(*arguments):
        slapd.stop()
        return is_password(*arguments)

    directory._is_password = goes
    unreachable(directory)
    del directory._is_password
    slapd.start()
    assert sign_in(directory).name == "alice"


def test_a_lecture_hall_signs_in_at_once(still_slapd):
    directory = Directory(config_for(still_slapd))
    names = []
    all_at_once(60, lambda: names.append(sign_in(directory).name))
    assert names == ["alice"] * 60


def test_when_everything_hangs_nobody_waits_longer(still_slapd):
    with black_hole() as hole:
        directory = Directory(config_for(still_slapd, hole, timeout=1.0))
        took = []
        all_at_once(40, lambda: took.append(seconds(lambda: unreachable(directory))))
    assert len(took) == 40 and max(took) < LONGEST


# -- encryption --------------------------------------------------------------------------------


def secured(server, **changes):
    return Directory(config_for(server, **{"start_tls": True, "ca_file": server.ca_file, **changes}))


def test_start_tls_and_ldaps_with_the_universitys_certificate(still_slapd):
    assert sign_in(secured(still_slapd)).name == "alice"
    assert sign_in(Directory(config_for(still_slapd, still_slapd.tls_uri, ca_file=still_slapd.ca_file))).name == "alice"


@pytest.mark.parametrize("wrong", ["authority", "name"])
@pytest.mark.parametrize("tls", ["StartTLS", "LDAPS"])
def test_a_wrong_certificate_gets_no_password(slapd, monkeypatch, wrong, tls):
    if wrong == "authority":
        slapd.present(Authority("Authority of somebody else"), "127.0.0.1")
    else:
        slapd.present(slapd.authority, "another.uni.test")
    slapd.stop()
    slapd.start()
    directory = secured(slapd) if tls == "StartTLS" else Directory(config_for(slapd, slapd.tls_uri, ca_file=slapd.ca_file))
    monkeypatch.setattr(directory, "_authenticated", lambda *arguments: pytest.fail("a bind was tried"))
    unreachable(directory)


def test_an_authority_that_this_computer_does_not_know_is_not_trusted(still_slapd):
    unreachable(secured(still_slapd, ca_file=None))


def test_one_directory_does_not_trust_what_another_may(still_slapd, tmp_path):
    """The authorities belong to a connection, not to the process."""
    other = tmp_path / "other.pem"
    other.write_bytes(Authority("Authority of somebody else").certificate)
    assert sign_in(secured(still_slapd)).name == "alice"
    unreachable(secured(still_slapd, ca_file=other))
    assert sign_in(secured(still_slapd)).name == "alice"


def without_tls(slapd):
    configuration = slapd.folder / "slapd.conf"
    configuration.write_text("\n".join(line for line in configuration.read_text().splitlines() if not line.startswith("TLS")))
    slapd.stop()
    slapd.start(tls=False)


def test_a_server_without_encryption_gets_no_password(slapd):
    without_tls(slapd)
    with pytest.raises(Unreachable) as raised:
        sign_in(secured(slapd))
    assert "no encryption" in raised.value.detail


def test_a_server_without_encryption_is_passed_over(slapd, still_slapd):
    without_tls(slapd)
    assert sign_in(Directory(config_for(slapd, slapd.uri, still_slapd.uri, start_tls=True, ca_file=still_slapd.ca_file))).name == "alice"


@pytest.mark.parametrize("slip", [{"attributes": Attributes(email=None)}, {"attributes": Attributes(email=5)}, {"bind_password": "a-secret\udcfc"}])
def test_what_no_server_can_be_asked_is_no_answer(still_slapd, slip, caplog):
    """Others than people of the directory can sign in all the same."""
    with pytest.raises(Unreachable) as raised:
        sign_in(Directory(config_for(still_slapd, **slip)))
    assert "cannot be asked like this" in raised.value.detail and "a-secret" not in raised.value.detail + caplog.text


def test_errors_hold_no_password(still_slapd):
    with pytest.raises(DirectoryError) as raised:
        sign_in(Directory(config_for(still_slapd, bind_password="a-secret")))
    assert "a-secret" not in repr(raised.value.__dict__) + str(raised.value) and "a-secret" not in repr(config_for(still_slapd, bind_password="a-secret"))
