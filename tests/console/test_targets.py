"""Which addresses the portal connects to: those of the provider, and of guests only inside their cluster's networks."""

import pytest

from console.services import targets
from machines.models import Machine
from machines.services.refusal import Refused
from tests.factories import make_cluster, make_machine

NETWORKS = ["10.20.0.0/16", "2001:db8::/64"]


def machine_with(*endpoints, networks=NETWORKS):
    machine = make_machine(cluster=make_cluster(networks=networks), ssh_private_key="key")
    machine.endpoints = [dict(zip(("service", "host", "port", "source"), endpoint, strict=True)) for endpoint in endpoints]
    return machine


def found(*endpoints, networks=NETWORKS):
    target = targets.shell(machine_with(*endpoints, networks=networks))
    return target.host, target.port


pytestmark = pytest.mark.django_db


def test_a_forward_of_the_provider_is_trusted_and_comes_first():
    assert found(("ssh", "10.20.0.9", 22, "agent"), ("ssh", "127.0.0.1", 40022, "forward")) == ("127.0.0.1", 40022)


@pytest.mark.parametrize(("claim", "host"), [("10.20.0.9", "10.20.0.9"), ("2001:db8::5", "2001:db8::5"), ("2001:0DB8:0::0005", "2001:db8::5")])
def test_an_address_of_the_clusters_networks_is_taken_on_the_port_of_ssh(claim, host):
    assert found(("ssh", claim, 6379, "agent")) == (host, 22)
    assert found(("guest", claim, 0, "lease")) == (host, 22)


def test_the_first_good_address_wins():
    assert found(("guest", "10.20.0.9", 0, "arp"), ("ssh", "192.0.2.1", 22, "agent"), ("ssh", "10.20.0.8", 22, "lease")) == ("10.20.0.8", 22)


HOSTILE = [
    "127.0.0.1",
    "127.1",
    "0.0.0.0",
    "::",
    "::1",
    "::ffff:10.20.0.9",
    "::ffff:127.0.0.1",
    "2002:0a14:0009::1",
    "169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "10.20.0.9/16",
    "010.020.000.009",
    "0x0a140009",
    "169148425",
    "10.20.0.9.",
    " 10.20.0.9",
    "10.20.0.9\n",
    "localhost",
    "machine.example",
    "[2001:db8::5]",
    "",
    "10.20.0.9:22",
    "/run/ssh.sock",
]


@pytest.mark.parametrize("networks", [NETWORKS, ["0.0.0.0/0", "::/0"]])
@pytest.mark.parametrize("claim", HOSTILE)
def test_no_claim_leads_the_portal_elsewhere(claim, networks):
    with pytest.raises(Refused) as refusal:
        found(("ssh", claim, 22, "agent"), networks=networks)
    assert refusal.value.code == "foreign_address"


@pytest.mark.parametrize("claim", ["192.0.2.1", "10.21.0.1", "2001:db8:1::5"])
def test_an_address_outside_the_networks_is_not_taken(claim):
    with pytest.raises(Refused, match="outside the networks"):
        found(("ssh", claim, 22, "agent"))


def test_no_networks_allow_no_address():
    with pytest.raises(Refused):
        found(("ssh", "10.20.0.9", 22, "agent"), networks=[])


def test_other_services_are_not_ssh():
    with pytest.raises(Refused) as refusal:
        found(("rdp", "10.20.0.9", 3389, "agent"))
    assert refusal.value.code == "no_address"


def test_a_host_key_is_pinned_once():
    machine = make_machine()
    assert targets.pin_host_key(machine, "ssh-ed25519 AAAA")
    assert targets.pin_host_key(machine, "ssh-ed25519 AAAA")
    assert not targets.pin_host_key(machine, "ssh-ed25519 BBBB")
    assert Machine.objects.get().ssh_host_key == "ssh-ed25519 AAAA"


def test_the_private_key_does_not_show_when_a_target_is_printed():
    machine = machine_with(("ssh", "10.20.0.9", 22, "agent"))
    machine.ssh_private_key = "very secret"
    target = targets.shell(machine)
    assert target.private_key == "very secret"
    assert "very secret" not in repr(target)
