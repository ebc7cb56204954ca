"""What was there before is labelled, recognised and let go, and nothing else of it changes."""

import uuid

import pytest

from machines.providers.errors import ForeignMachine, InvalidSpec, TaskFailed
from machines.providers.proxmox import ProxmoxProvider
from machines.providers.types import MachineIdentity, Power, Presence

from .desk import PORTAL, Desk

pytestmark = pytest.mark.parametrize("kind", ["vm", "ct"])


@pytest.fixture
def old(desk, kind, request):
    """The number of a guest outside our range that somebody made by hand."""
    vmid = {"vm": 310, "ct": 320}[kind]
    add = desk.control.add_vm if kind == "vm" else desk.control.add_ct
    add(vmid=vmid, name="payroll", node="pve2", status="stopped", pool=desk.cluster.pool, config={"description": "Belongs to Ada.\nCall her first."})
    yield str(vmid)
    desk.control.remove(vmid=vmid)


def identity() -> MachineIdentity:
    return MachineIdentity(str(uuid.uuid4()), "payroll", PORTAL)


def description(desk: Desk, ref: str) -> str:
    return str(desk.control.guest(vmid=int(ref))["config"].get("description", ""))


def test_it_is_labelled_and_let_go_as_it_was(desk, old):
    who = identity()
    before = desk.control.guest(vmid=int(old))["config"]
    assert desk.provider.find(who, old).presence is Presence.FOREIGN
    for _ in range(2):  # twice is once
        desk.provider.adopt(who, old, "payroll")
    assert description(desk, old).startswith("Belongs to Ada.\nCall her first.\n")
    seen = desk.provider.find(who, old)
    assert seen.presence is Presence.OURS and seen.power is not Power.ON
    desk.provider.release(who, old)
    assert desk.control.guest(vmid=int(old))["config"] == before
    assert desk.provider.find(who, old).presence is Presence.FOREIGN


def test_the_inventory_knows_it_outside_our_range(desk, old, kind):
    who = identity()
    provider: ProxmoxProvider = desk.another(pool="")
    provider.adopted = [old]
    first = next(one for one in provider.inventory().machines if one.ref == old)
    assert first.identity is None and first.kind == ("vm" if kind == "vm" else "container")
    desk.provider.adopt(who, old, "payroll")
    again = next(one for one in provider.inventory().machines if one.ref == old)
    assert again.identity is not None and again.identity.key == who.key


def test_another_label_or_another_machine_is_not_touched(desk, old):
    desk.provider.adopt(identity(), old, "payroll")
    told = description(desk, old)
    with pytest.raises(ForeignMachine):
        desk.provider.adopt(identity(), old, "payroll")
    with pytest.raises(ForeignMachine):
        desk.provider.release(identity(), old)
    assert description(desk, old) == told


def test_one_that_took_the_number_meanwhile_is_not_adopted(desk, old):
    with pytest.raises(ForeignMachine):
        desk.provider.adopt(identity(), old, "web")
    assert "labportal" not in description(desk, old)


def test_templates_and_what_is_gone_are_not_adopted(desk, kind):
    with pytest.raises(InvalidSpec):
        desk.provider.adopt(identity(), "9000" if kind == "vm" else "9100", "x")
    with pytest.raises((TaskFailed, InvalidSpec)):
        desk.provider.adopt(identity(), "399", "x")


def test_the_certificate_is_shown_for_comparison(desk, kind):
    config = desk.cluster.config()
    (first, *_rest) = ProxmoxProvider.certificates({**config, "tls": "fingerprint", "fingerprints": []})
    assert first.ok and desk.cluster.fingerprint in first.detail
