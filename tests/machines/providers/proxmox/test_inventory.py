"""One call for a whole cluster: what is late in it, what is missing, and whose each machine is."""

import time
from typing import Any

import pytest

from machines.providers.proxmox import ProxmoxProvider, resources
from machines.providers.proxmox import inventory as stocktaking
from machines.providers.proxmox.inventory import BELIEVED_SECONDS, READINGS, STALE_READINGS
from machines.providers.types import Inventory, ObservedMachine, Power, Stage

from .desk import Desk

CONFIG = "GET /nodes/{node}/qemu/{vmid}/config"


def line_of(inventory: Inventory, ref: str) -> ObservedMachine | None:
    return next((machine for machine in inventory.machines if machine.ref == ref), None)


def test_one_call_tells_of_machines_and_nodes(desk: Desk) -> None:
    machine = desk.made()
    inventory = desk.provider.inventory()
    line = line_of(inventory, machine.ref)
    assert line and (line.identity, line.power, line.stage, line.node) == (machine.identity, Power.OFF, Stage.READY, "pve1")
    assert [node.name for node in inventory.nodes] == ["pve1", "pve2", "pve3"]
    assert all(node.memory_free_mib > 0 for node in inventory.nodes)
    assert inventory.whole and inventory.lag == 15
    assert not [line for line in inventory.machines if line.ref in ("9000", "9001", "9100", "9101")]
    desk.control.reset_calls()
    desk.provider.inventory()
    assert desk.control.calls() == {"GET /cluster/resources": 1}


def test_what_is_free_on_storages_that_machines_are_made_on(desk: Desk) -> None:
    every = desk.provider.inventory().disk
    shared = desk.another(storages=["shared"]).inventory().disk
    assert every and every.total_gib > 4000 and every.free_gib < every.total_gib  # three of local-lvm, and those for all nodes
    assert shared and shared.total_gib == 1000 and 0 < shared.free_gib <= 900


def test_what_is_told_late_does_not_hide_a_machine(desk: Desk) -> None:
    desk.control.settings(lag=None)
    machine = desk.made()
    line = line_of(desk.provider.inventory(), machine.ref)
    assert line and (line.identity, line.power) == (machine.identity, Power.UNKNOWN)
    desk.control.tell_statistics()
    desk.control.reset_calls()
    line = line_of(desk.provider.inventory(), machine.ref)
    assert line and line.identity == machine.identity
    assert desk.control.calls() == {"GET /cluster/resources": 1}


def test_a_number_used_again_is_read_again(desk: Desk) -> None:
    machine = desk.made()
    assert line_of(desk.provider.inventory(), machine.ref)
    desk.control.replace(machine.number, "payroll", pool="labs")
    line = line_of(desk.provider.inventory(), machine.ref)
    assert line and (line.identity, line.name) == (None, "payroll")


def test_more_new_machines_than_one_pass_reads(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = desk.made()
    for number in range(READINGS + 5):
        desk.control.add_vm(170_000 + number, f"other-{number}", pool="labs")
    try:
        provider = desk.another()
        desk.control.reset_calls()
        assert not provider.inventory().whole
        assert desk.control.calls()[CONFIG] == READINGS
        inventory = provider.inventory()
        assert inventory.whole
        line = line_of(inventory, machine.ref)
        assert line and line.identity == machine.identity
        monkeypatch.setattr(stocktaking, "BELIEVED_SECONDS", 0.0)  # all were read long ago
        desk.control.reset_calls()
        assert provider.inventory().whole
        assert desk.control.calls()[CONFIG] == STALE_READINGS
    finally:
        for number in range(READINGS + 5):
            desk.control.remove(170_000 + number)


def test_what_was_read_long_ago_is_read_again_before_long() -> None:
    passes = BELIEVED_SECONDS / ProxmoxProvider.capabilities.inventory_seconds
    assert passes * STALE_READINGS >= 1000


def test_a_node_that_hangs_is_not_waited_for_long(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stocktaking, "READING_SECONDS", 1.2)
    machine, provider = desk.made(), desk.another()
    desk.control.fault("GET", "/nodes/pve1/qemu/.*/config", hang=True, times=20)
    began = time.monotonic()
    for _ in range(2):
        inventory = provider.inventory()
        assert not inventory.whole and line_of(inventory, machine.ref)
    assert time.monotonic() - began < 3


def test_machines_of_others_are_not_read(desk: Desk) -> None:
    provider = desk.another(vmids=[199_990, 199_999], pool="")
    provider.inventory()
    desk.control.add_vm(500, "payroll")
    desk.control.grant("labportal@pve", "/vms/500", ["VM.Audit"])
    desk.control.grant("labportal@pve!portal", "/vms/500", ["VM.Audit"])
    desk.control.reset_calls()
    line = line_of(provider.inventory(), "500")
    assert line and line.identity is None
    assert desk.control.calls() == {"GET /cluster/resources": 1}
    desk.control.remove(500)


def test_load_of_what_runs(desk: Desk) -> None:
    machine = desk.made()
    machine.start()
    load = {metrics.ref: metrics for metrics in desk.another().metrics()}[machine.ref]
    assert load.cpu is None or 0 <= load.cpu <= 1
    assert load.memory_mib is None or load.memory_mib > 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"type": "qemu", "vmid": 100, "node": "a", "status": "unknown"}, ("", Power.UNKNOWN, None)),
        ({"type": "lxc", "vmid": "100", "node": "a", "name": "x", "status": "running", "template": 0}, ("x", Power.ON, False)),
        ({"type": "qemu", "vmid": 100, "status": "paused", "template": 1}, ("", Power.ON, True)),
        ({"type": "qemu", "vmid": 100, "status": "stopped"}, ("", Power.OFF, None)),
    ],
)
def test_lines_with_less_than_one_would_expect(line: dict[str, Any], expected: tuple[str, Power, bool | None]) -> None:
    found = resources.parse([line]).guests[100]
    assert (found.name or "", found.power, found.template) == expected


@pytest.mark.parametrize(
    "answer", [None, {}, "text", [None, 1, {}, {"type": "qemu"}, {"type": "qemu", "vmid": "x"}, {"type": "node"}, {"type": "storage"}, {"type": "sdn"}]]
)
def test_answers_that_are_none(answer: object) -> None:
    found = resources.parse(answer)
    assert not found.guests and not found.nodes and not found.storages
