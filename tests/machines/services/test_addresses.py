"""A guest that lies about its address is not connected to, and is in no file."""

import ipaddress
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Role
from machines.lifecycle import State
from machines.models import Cluster, Machine, Template
from machines.providers.types import Endpoint
from machines.selectors.claims import Claims
from machines.services import locating, neighbours, rdp
from machines.services.addresses import ForeignAddress, NoAddress, disputes, rdp_address, ssh_address
from machines.services.refusal import Refused
from tests.factories import make_cluster, make_machine, make_template, make_user

NETWORK = "10.20.0.0/16"
LIES = [
    "evil.test",
    "127.0.0.1",
    "169.254.169.254",
    "224.0.0.1",
    "0.0.0.0",
    "::1",
    "fe80::1%eth0",
    "::ffff:10.20.0.7",
    "10.20.0.7\r\nusername:s:root",
    "",
    "192.0.2.9",
]
hosts = st.one_of(st.sampled_from([*LIES, "10.20.0.7", "10.20.0.8"]), st.text(), st.ip_addresses().map(str))
sources = st.sampled_from(["agent", "container", "lease", "arp", "config"])
services = st.sampled_from(["guest", "ssh", "rdp", "mac"])
claim = st.fixed_dictionaries({"service": services, "host": hosts, "port": st.integers(0, 70000), "source": sources})


def told(host, source="agent"):
    return {"service": "guest", "host": host, "port": 0, "source": source}


@given(st.lists(claim, max_size=20), st.frozensets(hosts), st.sampled_from([ssh_address, rdp_address]))
def test_whatever_is_claimed_only_the_clusters_own_network_is_connected_to(claims, disputed, find):
    try:
        host, port = find(claims, [NETWORK], disputed)
    except (NoAddress, ForeignAddress):
        return
    assert ipaddress.ip_address(host) in ipaddress.ip_network(NETWORK) and host not in disputed and port in (22, 3389)
    assert rdp.write(host, port, "ada").splitlines()[0] == f"full address:s:{host}:{port}"


@given(st.dictionaries(st.integers(0, 5), st.lists(claim, max_size=6), max_size=6))
def test_no_address_is_believed_of_two_machines(claims):
    doubted = disputes(Claims(machine, endpoints, [NETWORK]) for machine, endpoints in claims.items())
    believed = []
    for machine, endpoints in claims.items():
        try:
            believed.append(ssh_address(endpoints, [NETWORK], doubted.get(machine, frozenset()))[0])
        except (NoAddress, ForeignAddress):
            continue
    assert len(believed) == len(set(believed))


def doubts(*machines, at=None):
    """By machine, counted from 1, each with the endpoints it tells."""
    return disputes(Claims(number, endpoints, [NETWORK], at) for number, endpoints in enumerate(machines, 1))


def test_the_network_says_whose_an_address_is():
    assert doubts([told("10.20.0.7")], [told("10.20.0.7")]) == {1: {"10.20.0.7"}, 2: {"10.20.0.7"}}
    assert doubts([told("10.20.0.7"), told("10.20.0.7", "arp")], [told("10.20.0.7")]) == {2: {"10.20.0.7"}}
    assert doubts([told("10.20.0.7", "arp")], [told("10.20.0.7", "arp")]) == {1: {"10.20.0.7"}, 2: {"10.20.0.7"}}


def since(seconds):
    return timezone.now() - timedelta(seconds=seconds)


def test_whoever_claims_the_addresses_of_others_takes_them_from_nobody():
    neighbours = [f"10.20.0.{number}" for number in range(10, 18)]
    honest = [Claims(number, [told(host)], [NETWORK], since(30), {host: since(3600).isoformat()}) for number, host in enumerate(neighbours)]
    liar = Claims(99, [told(host) for host in neighbours], [NETWORK], since(5), {host: since(60).isoformat() for host in neighbours})
    assert disputes([liar, *honest]) == {99: frozenset(neighbours)}


def test_a_silent_guest_does_not_keep_the_next_holder_from_its_address():
    before = Claims(1, [told("10.20.0.7")], [NETWORK], since(3600), {"10.20.0.7": since(9999).isoformat()})
    now = Claims(2, [told("10.20.0.7")], [NETWORK], since(30), {"10.20.0.7": since(60).isoformat()})
    assert disputes([before, now]) == {1: {"10.20.0.7"}}
    assert disputes([before]) == {}


def test_what_is_outside_of_a_clusters_networks_is_disputed_by_nobody_there():
    assert disputes([Claims(1, [told("10.20.0.7")], [NETWORK]), Claims(2, [told("10.20.0.7")], ["10.30.0.0/16"])]) == {}


@given(st.lists(st.builds(Endpoint, services, hosts, st.integers(0, 70000), sources), max_size=60))
def test_what_is_kept_has_an_end_and_no_line_breaks(claims):
    kept = locating._usable(claims)
    assert len(kept) <= locating.MOST_ADDRESSES
    assert all(end["host"].isprintable() and "127." not in end["host"][:4] for end in kept)


@given(st.text(), st.text())
def test_a_table_of_neighbours_is_read_whatever_is_in_it(head, rest):
    assert all(ipaddress.IPv4Address(host) for found in neighbours.parse(f"{head}\n{rest}").values() for host in found)


def test_a_table_of_neighbours():
    text = """IP address       HW type     Flags       HW address            Mask     Device
10.20.0.7        0x1         0x2         BC:24:11:00:00:07     *        vmbr0
10.20.0.8        0x1         0x0         bc:24:11:00:00:08     *        vmbr0
10.20.0.9        0x1         0x2         00:00:00:00:00:00     *        vmbr0
"""
    assert neighbours.parse(text) == {"bc:24:11:00:00:07": ["10.20.0.7"]}


@given(st.one_of(st.text(), st.sampled_from(LIES)), st.text())
def test_nothing_gets_into_the_file_that_is_no_address(host, username):
    try:
        text = rdp.write(host, 3389, username)
    except ValueError:
        return
    keys = [line.partition(":")[0] for line in text.removesuffix("\r\n").split("\r\n")]
    assert set(keys) <= {
        "full address",
        "username",
        "prompt for credentials",
        "authentication level",
        "redirectclipboard",
        "redirectdrives",
        "redirectprinters",
    }
    assert len(keys) == len(set(keys)) and "password" not in text


@pytest.fixture
def desktop(db) -> Machine:
    machine = make_machine(owner=make_user("ada", role=Role.STUDENT), state=State.RUNNING, username="ada", endpoints=[told("10.20.0.7")])
    Cluster.objects.filter(pk=machine.cluster_id).update(networks=[NETWORK])
    Template.objects.filter(pk=machine.template_id).update(rdp=True)
    return Machine.objects.get(pk=machine.pk)


def fetch(machine: Machine):
    client = Client()
    client.force_login(machine.owner)
    return client.get(reverse("machines:rdp", args=[machine.key]))


def test_the_file_of_a_machine(desktop):
    answer = fetch(desktop)
    assert answer.status_code == 200 and answer["Content-Type"] == "application/x-rdp"
    assert answer.content.startswith(b"full address:s:10.20.0.7:3389\r\nusername:s:ada\r\nprompt for credentials:i:1\r\n")
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("lie", LIES)
def test_no_file_leads_to_a_lie(desktop, lie):
    Machine.objects.update(endpoints=[told(lie)])
    answer = fetch(desktop)
    assert answer.status_code == 409 and b"full address" not in answer.content


@pytest.mark.parametrize("elsewhere", [False, True])
def test_no_file_leads_to_an_address_that_another_machine_had_before(desktop, elsewhere):
    template = make_template(make_cluster("elsewhere", networks=[NETWORK])) if elsewhere else desktop.template
    other = make_machine(template=template, state=State.RUNNING, endpoints=[told("10.20.0.7")])
    assert fetch(desktop).status_code == 409
    for machine, seconds in ((desktop, 60), (other, 600)):
        Machine.objects.filter(pk=machine.pk).update(told_since={"10.20.0.7": since(seconds).isoformat()})
    assert fetch(desktop).status_code == 409
    Machine.objects.filter(pk=desktop.pk).update(told_since={"10.20.0.7": since(700).isoformat()})
    assert fetch(desktop).status_code == 200


@pytest.mark.parametrize("change", [{"state": State.STOPPED}, {"endpoints": []}])
def test_no_file_without_a_machine_that_is_on_and_has_an_address(desktop, change):
    Machine.objects.update(**change)
    assert fetch(desktop).status_code == 409


def test_no_file_where_the_template_has_no_remote_desktop(desktop):
    Template.objects.update(rdp=False)
    desktop.refresh_from_db()
    with pytest.raises(Refused, match="no remote desktop"):
        rdp.rdp_file(Machine.objects.get(), acting_user=desktop.owner)
