"""The client of the API: what it does when the cluster does not answer as it should."""

import logging
import time

import pytest

from machines.providers.errors import AuthFailed, Busy, InvalidSpec, OutcomeUnknown, Overloaded, TaskFailed, Unreachable
from machines.providers.proxmox import client as module
from machines.providers.proxmox.answers import Forbidden, NoQuorum, NotThere
from machines.providers.proxmox.breakers import Breakers
from machines.providers.proxmox.client import Client, SecondFactorWanted

RESOURCES = "/cluster/resources"
CLONE = "/nodes/{node}/qemu/{vmid}/clone"
NUMBERS = iter(range(100100, 199999))


def clone(client, vmid):
    return client.post("nodes/pve1/qemu/9000/clone", newid=vmid, name=f"clone-{vmid}", pool="labs", full=False)


def settings(**more):
    return {"endpoints": ["pve1.example.org"], "user": "labportal@pve", "token_name": "portal"} | more


# -- settings ---------------------------------------------------------------------------------


def test_an_endpoint_has_the_port_of_proxmox_unless_it_names_another():
    client = Client(settings(endpoints=["pve1.example.org", "https://pve2.example.org:443/", "[2001:db8::1]", "pve1.example.org:8006"]), "secret")
    assert client.endpoints == ("pve1.example.org:8006", "pve2.example.org:443", "[2001:db8::1]:8006")


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoints": []},
        {"endpoints": ["pve1.example.org:0"]},
        {"endpoints": ["pve1.example.org/api"]},
        {"endpoints": ["user@pve1.example.org"]},
        {"token_name": "portal\r\nX-Evil: 1"},
        {"tls": "ca"},
        {"tls": "ca", "ca": "no certificate"},
        {"tls": "fingerprint", "fingerprints": []},
        {"tls": "fingerprint", "fingerprints": ["AA:BB"]},
        {"tls": "none"},
    ],
)
def test_settings_that_cannot_be_used_are_refused_at_once(wrong):
    with pytest.raises(InvalidSpec):
        Client(settings(**wrong), "secret")


@pytest.mark.parametrize("path", ["nodes/../access/users", "nodes//status", "nodes/./status", ""])
def test_no_name_in_a_path_leads_elsewhere(connect, cluster, path):
    cluster.control.reset_calls()
    with pytest.raises(InvalidSpec):
        connect().get(path)
    assert cluster.control.calls() == {}


# -- ordinary calls -----------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{}, {"tls": "fingerprint"}, {"token_name": ""}, {"token_name": "", "tls": "fingerprint"}])
def test_reads_and_writes_with_either_account_and_trust(connect, cluster, config):
    client, vmid = connect(**config), next(NUMBERS)
    assert client.version == (9, 0)
    assert {line["node"] for line in client.get("/nodes")} == {"pve1", "pve2", "pve3"}
    assert clone(client, vmid).startswith("UPID:pve1:")
    assert cluster.control.guest(vmid)["vmid"] == vmid


def test_the_version_is_asked_for_once(connect, cluster):
    client = connect()
    cluster.control.reset_calls()
    assert client.version == client.version == (9, 0)
    assert cluster.control.calls() == {"GET /version": 1}


def test_the_environment_has_no_say(connect, monkeypatch, tmp_path):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "missing.pem"))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert connect().version == (9, 0)


# -- reads and endpoints ---------------------------------------------------------------------------


def test_a_read_goes_to_the_next_endpoint_and_stays_there(connect, cluster, down):
    client = connect()
    assert client.endpoint == cluster.endpoints[0]
    down(0)
    assert client.get(RESOURCES)
    assert client.endpoint == cluster.endpoints[1]


def test_a_write_that_was_never_sent_goes_to_the_next_endpoint(connect, cluster, down):
    client, vmid = connect(), next(NUMBERS)
    down(0)
    clone(client, vmid)
    assert client.endpoint == cluster.endpoints[1]
    assert cluster.control.calls()[f"POST {CLONE}"] == 1


def test_all_endpoints_down_is_unreachable_and_then_so_at_once(connect, cluster, down):
    breakers = Breakers()
    client = connect(breakers=breakers)
    down(0)
    down(1)
    with pytest.raises(Unreachable):
        client.get(RESOURCES)
    assert not any(breakers.allows(client._key(endpoint)) for endpoint in client.endpoints)
    with pytest.raises(Unreachable) as refused:  # another thread's client, which has not tried itself
        connect(breakers=breakers).post("nodes/pve1/qemu/9000/clone")
    assert cluster.endpoints[0] in refused.value.detail


def test_an_endpoint_that_came_back_is_used_again(connect, cluster):
    now = [0.0]
    client = connect(breakers=Breakers(clock=lambda: now[0]), endpoints=cluster.endpoints[:1])
    cluster.control.endpoint(0, up=False)
    try:
        with pytest.raises(Unreachable):
            client.get(RESOURCES)
    finally:
        cluster.control.endpoint(0, up=True)
    with pytest.raises(Unreachable):
        client.get(RESOURCES)
    now[0] = 2.0
    assert client.get(RESOURCES)


@pytest.mark.parametrize(
    "trouble", [{"status": 595}, {"status": 596}, {"status": 599}, {"drop": True}, {"status": 502, "html": True}, {"status": 200, "html": True}]
)
def test_a_read_without_an_answer_is_asked_elsewhere(connect, cluster, trouble):
    client = connect()
    cluster.control.fault("GET", RESOURCES, **trouble)
    assert client.get(RESOURCES)
    assert client.endpoint == cluster.endpoints[1]


def test_a_read_that_hangs_is_given_up_in_time(connect, cluster, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 1.2)
    client = connect()
    cluster.control.fault("GET", RESOURCES, hang=True)
    assert client.get(RESOURCES)
    assert client.endpoint == cluster.endpoints[1]


def test_a_call_within_a_few_seconds_takes_no_longer_at_all_endpoints_together(connect, cluster):
    client = connect()
    cluster.control.fault("GET", RESOURCES, hang=True, times=9)
    began = time.monotonic()
    with client.within(1.5), pytest.raises(Unreachable):
        client.get(RESOURCES)
    assert time.monotonic() - began < 3


def test_all_calls_of_one_deed_share_its_time(connect, cluster):
    client = connect()
    cluster.control.fault("GET", RESOURCES, delay=40, times=9)
    began = time.monotonic()
    with client.altogether(2), client.altogether(9), pytest.raises(Unreachable):
        for _ in range(9):
            client.get(RESOURCES)
    assert time.monotonic() - began < 3
    cluster.control.clear_faults()
    assert client.get(RESOURCES)


def test_a_node_behind_the_endpoint_is_not_the_endpoints_fault(connect, cluster):
    breakers = Breakers()
    client = connect(breakers=breakers)
    cluster.control.fault("GET", "/nodes/{node}/status", status=595, times=99)
    for _ in range(5):
        with pytest.raises(Unreachable, match="595") as raised:
            client.get("nodes/pve3/status")
        assert "pve3" in raised.value.message
    assert client.get(RESOURCES)
    assert client.endpoint == cluster.endpoints[0]


# -- writes are sent once ---------------------------------------------------------------------------


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize(
    "trouble", [{"drop": True}, {"status": 595}, {"status": 596}, {"status": 599}, {"status": 502, "html": True}, {"status": 200, "html": True}]
)
def test_a_write_in_doubt_is_said_to_be_so_and_never_repeated(connect, cluster, trouble, done):
    client, vmid = connect(), next(NUMBERS)
    cluster.control.reset_calls()
    cluster.control.fault("POST", CLONE, done=done, **trouble)
    with pytest.raises(OutcomeUnknown):
        clone(client, vmid)
    assert cluster.control.calls() == {f"POST {CLONE}": 1}
    assert any(guest["vmid"] == vmid for guest in cluster.control.guests()) == done


def test_a_write_that_hangs_after_it_was_done_is_in_doubt(connect, cluster):
    client, vmid = connect(), next(NUMBERS)
    cluster.control.fault("POST", CLONE, done=True, hang=True)
    with client.within(1.2), pytest.raises(OutcomeUnknown):
        clone(client, vmid)
    assert cluster.control.guest(vmid)


def test_an_old_connection_is_not_used_for_a_write(connect, cluster, monkeypatch):
    """pveproxy closes it after 5 s: what is sent just then is in doubt."""
    client = connect()
    client.get("version")
    used = []
    monkeypatch.setattr(client._transport._session, "close", lambda: used.append("closed"))
    client.get("version")
    assert not used
    client._transport._used -= 4
    clone(client, next(NUMBERS))
    assert used == ["closed"]


# -- refusals ------------------------------------------------------------------------------------------


def test_a_refusal_is_an_error_of_ours(connect, cluster):
    client = connect()
    cluster.control.fault("POST", CLONE, status=500, message="can't lock file '/var/lock/pve-manager/pve-storage-shared' - got timeout")
    with pytest.raises(Overloaded):
        clone(client, 100001)
    cluster.control.fault("POST", CLONE, status=500, message="VM is locked (backup)")
    with pytest.raises(Busy) as locked:
        clone(client, 100001)
    assert locked.value.message == "The machine is locked on the cluster (backup)."
    with pytest.raises(InvalidSpec) as invalid:
        client.post("nodes/pve1/qemu/9000/clone", newid="abc")
    assert "newid" in invalid.value.message
    cluster.control.fault("GET", "/nodes/{node}/qemu/{vmid}/config", status=500, message="Configuration file 'nodes/pve1/qemu-server/9000.conf' does not exist")
    with pytest.raises(NotThere):
        client.get("nodes/pve1/qemu/9000/config")
    with pytest.raises(Forbidden) as forbidden:
        client.get("nodes/pve1/qemu/424242/config")
    assert forbidden.value.message == "The portal's account on the cluster lacks the privilege VM.Audit on /vms/424242."
    cluster.control.fault("POST", CLONE, status=500, message="something nobody has heard of")
    with pytest.raises(TaskFailed, match="something nobody has heard of"):
        clone(client, 100001)


def test_without_quorum_reads_go_on_and_the_next_write_tries_another_node(connect, cluster):
    client = connect()
    cluster.control.quorum(False)
    with pytest.raises(NoQuorum, match="quorum"):
        clone(client, 100001)
    assert client.endpoint == cluster.endpoints[1]
    assert client.get(RESOURCES)


# -- signing in ------------------------------------------------------------------------------------------


def test_a_revoked_token_is_said_to_be_refused(connect, cluster):
    secret = cluster.control.add_token("labportal@pve", "short")
    client = connect(secret, token_name="short")
    assert client.version
    cluster.control.revoke_token("labportal@pve!short")
    with pytest.raises(AuthFailed, match="401") as refused:
        client.get(RESOURCES)
    assert "token" in refused.value.message
    assert secret not in str(refused.value)


def test_a_wrong_password_is_refused_and_not_told(connect):
    with pytest.raises(AuthFailed) as refused:
        connect("not-the-password", token_name="").get(RESOURCES)
    assert "not-the-password" not in f"{refused.value} {refused.value.message} {refused.value.__cause__} {refused.value.__context__}"


def test_an_ended_ticket_is_replaced_once_and_the_write_done(connect, cluster):
    client, vmid = connect(token_name=""), next(NUMBERS)
    client.get("version")
    cluster.control.revoke_tickets()
    cluster.control.reset_calls()
    clone(client, vmid)
    assert cluster.control.calls() == {f"POST {CLONE}": 2, "POST /access/ticket": 1}
    assert cluster.control.guest(vmid)


def test_a_ticket_renews_itself_before_it_ends(connect, cluster, monkeypatch):
    client = connect(token_name="")
    client.get("version")
    client._secret = "changed-meanwhile"  # so that only the ticket can be what is given
    first = client.headers
    monkeypatch.setattr(module, "RENEW_SECONDS", 0)
    assert client.get(RESOURCES)
    assert client.headers != first


def test_a_ticket_too_old_to_renew_gives_way_to_the_password(connect, cluster, monkeypatch):
    client = connect(token_name="")
    client.get("version")
    cluster.control.revoke_tickets()
    monkeypatch.setattr(module, "RENEW_SECONDS", 0)
    assert client.get(RESOURCES)


def test_the_password_goes_to_the_next_endpoint_too(connect, cluster, down):
    client = connect(token_name="")
    down(0)
    assert client.get(RESOURCES)
    assert client.endpoint == cluster.endpoints[1]


def test_an_account_with_a_second_factor_is_refused_with_a_sentence(connect, cluster):
    cluster.control.settings(tfa=True)
    with pytest.raises(SecondFactorWanted, match="second factor"):
        connect(token_name="").get(RESOURCES)


# -- secrets -----------------------------------------------------------------------------------------------


def test_no_secret_is_logged_or_told(connect, cluster, caplog):
    caplog.set_level(logging.DEBUG)
    client = connect(token_name="")
    client.get("version")
    cluster.control.fault("PUT", "/nodes/{node}/qemu/{vmid}/config", status=500, message=f"cannot take hidden-of-guest from {cluster.password}")
    with pytest.raises(TaskFailed) as failed:
        client.put("nodes/pve1/qemu/9000/config", cipassword="hidden-of-guest")
    ticket = client.headers["Cookie"].partition("=")[2]
    told = caplog.text + repr(failed.value) + failed.value.message + repr(client.__dict__["_transport"])
    for secret in (cluster.password, "hidden-of-guest", ticket, client.headers["CSRFPreventionToken"]):
        assert secret not in told


# -- consoles -------------------------------------------------------------------------------------------------


def test_a_console_stays_at_one_endpoint(connect, cluster, down):
    client = connect()
    down(0)
    with client.pinned() as pinned:
        assert pinned.endpoint == cluster.endpoints[1]
        assert pinned.headers == cluster.authorization
        cluster.control.fault("GET", RESOURCES, drop=True)
        with pytest.raises(Unreachable):
            pinned.get(RESOURCES)
        assert pinned.endpoint == cluster.endpoints[1]


def test_a_websocket_is_signed_in_to_with_the_ticket(connect):
    headers = connect(token_name="").headers
    assert headers["Cookie"].startswith("PVEAuthCookie=PVE%3A") and headers["CSRFPreventionToken"]
