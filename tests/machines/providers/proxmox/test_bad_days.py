"""What goes wrong at a cluster, and what the provider makes of it."""

import json
import threading
import time

import pytest

from machines.providers.errors import (
    Busy,
    ForeignMachine,
    Locked,
    NoCapacity,
    OutcomeUnknown,
    Overloaded,
    ProviderError,
    StorageFull,
    TaskFailed,
    TemplateMissing,
    Unreachable,
    Unseen,
)
from machines.providers.proxmox import provider as provider_module
from machines.providers.types import ConsoleKind, Power, Presence, Stage, StopMode, TaskRef, TaskState
from tests.machines.providers.contract.verbs import CHANGING_VERBS
from tests.machines.providers.lab import until

from .desk import Desk

CLONE = "/nodes/{node}/qemu/{vmid}/clone"


def test_a_number_taken_between_the_choice_and_the_clone(desk: Desk) -> None:
    machine = desk.new()
    assert machine.find().presence is Presence.ABSENT
    desk.control.add_vm(machine.number, "payroll")
    with pytest.raises(Unseen):
        machine.create()
    assert machine.truth()["name"] == "payroll"


def test_our_number_used_again_by_a_stranger(desk: Desk) -> None:
    machine = desk.made()
    desk.control.replace(machine.number, "payroll", pool="labs")
    before = machine.truth()
    for provider in (desk.provider, desk.another()):
        assert provider.find(*machine.place).presence is Presence.FOREIGN
        for verb in CHANGING_VERBS.values():
            with pytest.raises(ForeignMachine):
                verb(provider, *machine.place, machine.spec)
    assert machine.truth() == before


@pytest.mark.parametrize("meanwhile", ["POST /nodes/{node}/qemu/{vmid}/status/stop", "GET /nodes/{node}/qemu/{vmid}/status/current"])
def test_a_stranger_who_takes_the_number_while_ours_is_being_removed(desk: Desk, meanwhile: str) -> None:
    machine = desk.made()
    machine.start()
    desk.control.fault(*meanwhile.split(), delay=25)
    stranger = threading.Timer(0.2, desk.control.replace, (machine.number, "payroll"), {"pool": "labs"})
    stranger.start()
    with pytest.raises(ForeignMachine):
        while (task := desk.provider.begin_destroy(*machine.place)) is not None:
            desk.settle(task)
    stranger.join()
    assert machine.truth()["name"] == "payroll"


def test_a_stranger_who_may_not_be_seen_has_the_number(desk: Desk) -> None:
    machine = desk.made()
    desk.control.replace(machine.number, "payroll")
    for provider in (desk.provider, desk.another()):
        with pytest.raises(Unseen):
            provider.find(*machine.place)
        for verb in CHANGING_VERBS.values():
            with pytest.raises(Unseen):
                verb(provider, *machine.place, machine.spec)
    assert machine.truth()["name"] == "payroll"


@pytest.mark.parametrize("trouble", [{"drop": True}, {"status": 596}, {"status": 599}])
def test_a_clone_that_began_without_an_answer_is_one_machine(desk: Desk, trouble: dict[str, object]) -> None:
    machine = desk.new()
    desk.control.settings(durations={"qmclone": 60})
    desk.control.fault("POST", CLONE, done=True, **trouble)
    with pytest.raises(OutcomeUnknown):
        machine.create()
    assert desk.another().find(*machine.place).stage is Stage.BUILDING
    task = desk.another().begin_create(*machine.place, machine.spec)
    assert task is not None
    desk.settle(task)
    assert machine.create() is None
    assert machine.find().stage is Stage.READY


def test_a_clone_that_was_never_begun(desk: Desk) -> None:
    machine = desk.new()
    desk.control.fault("POST", CLONE, status=596)
    with pytest.raises(OutcomeUnknown):
        machine.create()
    assert machine.find().presence is Presence.ABSENT
    desk.settle(machine.create())
    assert machine.find().stage is Stage.READY


def test_nothing_is_done_to_what_is_being_made(desk: Desk) -> None:
    machine = desk.new()
    desk.control.settings(durations={"qmclone": 50})
    task = machine.create()
    for provider in (desk.provider, desk.another()):
        assert provider.find(*machine.place).stage is Stage.BUILDING
        with pytest.raises(Busy):
            provider.begin_destroy(*machine.place)
        with pytest.raises(Busy):
            provider.begin_start(*machine.place)
    desk.settle(task)
    assert machine.find().stage is Stage.READY


def test_a_storage_that_many_wait_for_is_overloaded(desk: Desk) -> None:
    desk.control.settings(clones_per_storage=1, storage_lock_wait=0.5, durations={"qmclone": 20})
    first, second = desk.new(), desk.new()
    tasks = [first.create(), second.create()]
    assert tasks[0] and tasks[1]
    desk.settle(tasks[0])
    failed = desk.status(tasks[1])
    assert failed.state is TaskState.FAILED
    assert isinstance(failed.error, Overloaded)
    assert second.find().presence is Presence.ABSENT


def test_containers_of_one_template_are_made_one_after_the_other(desk: Desk) -> None:
    desk.control.settings(durations={"vzclone": 20})
    first, second = desk.new("9100"), desk.new("9100")
    task = first.create()
    with pytest.raises(Busy):
        second.create()
    desk.settle(task)
    desk.settle(second.create())
    assert second.find().stage is Stage.READY


def test_warnings_of_a_clone_are_none(desk: Desk) -> None:
    desk.control.task_fault("qmclone", "WARNINGS: 1")
    machine = desk.new()
    desk.settle(machine.create())
    assert machine.find().stage is Stage.READY


def test_a_removal_with_warnings_says_which_disks_it_may_have_left(desk: Desk) -> None:
    machine, smooth = desk.made(), desk.made()
    disk = machine.truth()["config"]["scsi0"].partition(",")[0]
    desk.control.task_fault("qmdestroy", "WARNINGS: 1")
    watcher = desk.another()
    tasks = [task for task in (desk.provider.begin_destroy(*one.place) for one in (machine, smooth)) if task]
    warned, quiet = [TaskRef.from_json(json.loads(json.dumps(task.to_json()))) for task in tasks]
    desk.settle(warned)
    desk.settle(quiet)
    statuses = watcher.poll([warned, quiet])
    assert disk in statuses[warned].left
    assert (statuses[quiet].state, statuses[quiet].left) == (TaskState.SUCCEEDED, ())
    assert machine.find().presence is Presence.ABSENT


def test_a_clone_that_fails_leaves_nothing_in_the_way(desk: Desk) -> None:
    machine = desk.new()
    desk.control.task_fault("qmclone", "clone failed: disk on fire")
    task = machine.create()
    assert task
    assert isinstance(desk.status(task).error, TaskFailed)
    desk.settle(machine.create())
    assert machine.find().stage is Stage.READY


def test_a_node_that_is_offline(desk: Desk) -> None:
    machine = desk.made()
    other = desk.new()
    desk.control.node("pve1", online=False)
    try:
        provider = desk.another()
        with pytest.raises(Unreachable):
            provider.find(*machine.place)
        with pytest.raises(NoCapacity) as full:
            provider.begin_create(*other.place, other.spec)
        assert "pve1" in full.value.message
        inventory = provider.inventory()
        assert not inventory.whole
        assert {node.name: node.online for node in inventory.nodes} == {"pve1": False, "pve2": True, "pve3": True}
    finally:
        desk.control.node("pve1", online=True)
    assert until(lambda: machine.find().presence is Presence.OURS, 10, "it is back", Unreachable)


def test_without_quorum_one_may_look(desk: Desk) -> None:
    machine = desk.made()
    desk.control.quorum(False)
    try:
        assert machine.find().power is Power.OFF
        with pytest.raises(Unreachable) as lost:
            desk.provider.begin_start(*machine.place)
        assert "quorum" in lost.value.message
    finally:
        desk.control.quorum(True)
    machine.start()


def test_a_backup_holds_the_machine(desk: Desk) -> None:
    machine = desk.made()
    desk.control.backup(machine.number, seconds=60)
    with pytest.raises(Busy):
        desk.settle(desk.provider.begin_destroy(*machine.place))
    assert machine.find().presence is Presence.OURS
    until(lambda: machine.truth()["lock"] is None, 10, "the backup ended")
    desk.settle(desk.provider.begin_destroy(*machine.place))


@pytest.mark.parametrize(("template", "deaf"), [("9000", {"acpi": False}), ("9100", {"shutdown_secs": 99999})])
def test_a_guest_that_ignores_its_power_button_is_forced(desk: Desk, template: str, deaf: dict[str, object]) -> None:
    machine = desk.made(template)
    machine.start()
    desk.control.change_guest(machine.number, **deaf)
    asked = desk.provider.begin_stop(*machine.place, StopMode.GRACEFUL)
    assert asked
    assert desk.provider.poll([asked])[asked].state is TaskState.RUNNING
    desk.settle(desk.provider.begin_stop(*machine.place, StopMode.FORCE))
    assert machine.find().power is Power.OFF
    assert desk.status(asked).state is TaskState.LOST


@pytest.mark.parametrize(("template", "deaf"), [("9000", {"acpi": False}), ("9100", {"shutdown_secs": 99999})])
def test_before_proxmox_ve_8_2_the_shutdown_is_ended_first_as_it_holds_the_lock(desk: Desk, template: str, deaf: dict[str, object]) -> None:
    machine = desk.made(template)
    machine.start()
    desk.control.settings(version="8.1.4")
    desk.control.change_guest(machine.number, **deaf)
    asked = desk.another().begin_stop(*machine.place, StopMode.GRACEFUL)
    assert asked
    desk.settle(desk.another().begin_stop(*machine.place, StopMode.FORCE))
    assert machine.find().power is Power.OFF
    assert desk.status(asked).state is TaskState.LOST


@pytest.mark.parametrize("verb", CHANGING_VERBS)
def test_no_verb_takes_longer_than_a_worker_has_for_it(desk: Desk, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    machine = desk.made()
    monkeypatch.setattr(provider_module, "VERB_SECONDS", 1.5)
    provider = desk.another()
    desk.control.fault("GET", ".*", delay=40, times=20)
    desk.control.fault("POST", ".*", delay=40, times=20)
    began = time.monotonic()
    with pytest.raises((Unreachable, OutcomeUnknown)):
        CHANGING_VERBS[verb](provider, *machine.place, machine.spec)
    assert time.monotonic() - began < 2.5


def test_a_storage_that_is_full(desk: Desk) -> None:
    desk.control.storage("local-lvm", avail=1 << 20)
    try:
        machine = desk.new(linked=False)
        task = machine.create()
        assert task
        assert isinstance(desk.status(task).error, StorageFull)
        with pytest.raises(NoCapacity):
            desk.another(storages=["local-lvm"]).begin_create(*machine.place, machine.spec)
    finally:
        desk.control.storage("local-lvm", avail=900 << 30)


@pytest.mark.parametrize("status", [596, 599])
def test_a_write_that_was_not_answered_may_be_repeated(desk: Desk, status: int) -> None:
    machine = desk.made()
    for verb, path in (("start", "/nodes/{node}/qemu/{vmid}/status/start"), ("destroy", "/nodes/{node}/qemu/{vmid}")):
        desk.control.fault("DELETE" if verb == "destroy" else "POST", path, done=True, status=status)
        with pytest.raises(OutcomeUnknown):
            CHANGING_VERBS[verb](desk.provider, *machine.place, machine.spec)
        if verb == "start":
            until(lambda: machine.find().power is Power.ON, 10, "it is on")
            desk.settle(desk.provider.begin_start(*machine.place))
            desk.settle(desk.provider.begin_stop(*machine.place, StopMode.FORCE))
    until(lambda: machine.find().presence is Presence.ABSENT, 10, "it is gone", ProviderError)
    assert desk.provider.begin_destroy(*machine.place) is None


def test_a_machine_that_was_moved_is_followed(desk: Desk) -> None:
    machine = desk.made("9001")
    desk.control.migrate(machine.number, "pve3")
    until(lambda: machine.truth()["node"] == "pve3", 10, "it moved")
    desk.settle(desk.provider.begin_start(*machine.place))
    found = machine.find()
    assert (found.power, found.node) == (Power.ON, "pve3")


def test_a_template_that_is_gone(desk: Desk) -> None:
    machine = desk.new("9999")
    with pytest.raises(TemplateMissing):
        machine.create()


def test_what_was_left_locked_is_told_and_not_touched(desk: Desk) -> None:
    machine = desk.made()
    desk.control.change_guest(machine.number, lock="clone")
    found = machine.find()
    assert (found.presence, found.stage) == (Presence.OURS, Stage.BROKEN)
    assert "locked" in found.detail
    for verb in CHANGING_VERBS.values():
        with pytest.raises(Locked) as left:
            verb(desk.another(), *machine.place, machine.spec)
        assert f"qm unlock {machine.ref}" in left.value.message and "pve1" in left.value.message
    desk.control.change_guest(machine.number, lock=None)
    machine.start()


def test_a_container_that_was_left_locked_has_a_command_of_its_own(desk: Desk) -> None:
    machine = desk.made("9100")
    desk.control.change_guest(machine.number, lock="snapshot")
    with pytest.raises(Locked) as left:
        desk.another().begin_start(*machine.place)
    assert f"pct unlock {machine.ref}" in left.value.message


def test_who_may_not_see_the_tasks_of_others_does_not_say_that_nobody_is_at_work(desk: Desk) -> None:
    machine = desk.made()
    desk.control.change_guest(machine.number, lock="backup")
    for who in ("labportal@pve", "labportal@pve!portal"):
        desk.control.revoke(who, "/nodes")
    try:
        with pytest.raises(Busy):
            desk.settle(desk.provider.begin_destroy(*machine.place))
    finally:
        for who in ("labportal@pve", "labportal@pve!portal"):
            desk.control.grant(who, "/nodes", ["Sys.Audit"])
        desk.control.change_guest(machine.number, lock=None)


def test_a_console_that_is_open_holds_no_lock(desk: Desk) -> None:
    machine = desk.made()
    machine.start()
    desk.provider.open_console(*machine.place, ConsoleKind.SCREEN)
    desk.control.change_guest(machine.number, lock="rollback")
    with pytest.raises(Busy):
        desk.provider.begin_stop(*machine.place, StopMode.FORCE)  # it was read a moment ago
    with pytest.raises(Locked):
        desk.provider.begin_stop(*machine.place, StopMode.FORCE)
    desk.control.change_guest(machine.number, lock=None)


def test_tasks_that_were_forgotten_are_lost(desk: Desk) -> None:
    machine = desk.made()
    task = desk.provider.begin_start(*machine.place)
    assert task
    desk.settle(task)
    desk.control.forget_tasks()
    assert desk.provider.poll([task])[task].state is TaskState.LOST
