"""What only real QEMU shows: hung guests, a daemon that dies, disks and templates that vanish."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from machines.providers.errors import Busy, Incomplete, InvalidSpec, NotRunning, StorageFull, TemplateMissing, Unreachable
from machines.providers.libvirt_kvm import LibvirtProvider, connection, domain, provider, storage
from machines.providers.types import ConsoleKind, Power, Presence, Seed, Stage, StopMode, TaskRef, TaskState
from tests.guests.hypervisor import TEMPLATE, Hypervisor, golden_image
from tests.machines.providers.lab import Lab, Made, rfb_security_result, until

from .test_images import box, metadata

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def lab(hypervisor: Hypervisor) -> Iterator[Lab]:
    lab = Lab(hypervisor.provider, TEMPLATE, memory_mib=128, task_seconds=60, boot_seconds=120)
    yield lab
    lab.close()


@pytest.fixture
def made(lab: Lab) -> Iterator[Made]:
    made = lab.create()
    yield made
    lab.destroy(made)


@pytest.fixture
def running(lab: Lab, made: Made) -> Made:
    """On; nobody waits for it to boot."""
    lab.settle(lab.provider.begin_start(made.identity, made.ref))
    return made


@pytest.fixture(scope="module")
def raw(hypervisor: Hypervisor) -> Iterator["libvirt.virConnect"]:
    raw = hypervisor.connect()
    yield raw
    raw.close()


def volume(hypervisor: Hypervisor, name: str) -> Path:
    return hypervisor.daemon.pool_path / name


def qemu(made: Made) -> int:
    """The process id of the machine's QEMU."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            command = (entry / "cmdline").read_bytes().split(b"\0") if (entry / "cmdline").exists() else []
            if b"-uuid" in command and made.ref.encode() in command:
                return int(entry.name)
    raise ProcessLookupError(made.ref)


@contextmanager
def hung(made: Made) -> Iterator[None]:
    pid = qemu(made)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


# -- one hung machine ----------------------------------------------------------------------


def test_a_hung_machine_holds_up_nobody_else(lab: Lab, hypervisor: Hypervisor, running: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = hypervisor.provider()
    with hung(running):
        monkeypatch.setattr(connection, "CALL_SECONDS", 2.0)
        with pytest.raises(Unreachable):
            stuck.screenshot(running.identity, running.ref)  # this one asks it, and is held up, with a limit
        monkeypatch.undo()
        began = time.monotonic()
        assert lab.line(running.ref) is not None
        assert running.ref in [metrics.ref for metrics in lab.provider.metrics()]
        assert lab.find(running).power is Power.ON
        other = lab.create()
        lab.settle(lab.provider.begin_start(other.identity, other.ref))
        lab.destroy(other)
        assert time.monotonic() - began < 10
        lab.settle(lab.provider.begin_stop(running.identity, running.ref, StopMode.FORCE))
        assert lab.find(running).power is Power.OFF
    stuck.close()


# -- the daemon ----------------------------------------------------------------------------


def test_a_daemon_that_is_killed_comes_back_and_finds_its_machines(lab: Lab, hypervisor: Hypervisor, running: Made) -> None:
    watcher = hypervisor.provider()
    watcher.inventory()
    until(lambda: not watcher.wait_for_change(0.1), 20, "the cluster is quiet")
    os.kill(hypervisor.daemon_pid(), signal.SIGKILL)
    with pytest.raises(Unreachable):
        watcher.wait_for_change(20)
    until(lambda: watcher.inventory(), 30, "the daemon answers again", Unreachable)
    watcher.close()
    until(lambda: lab.find(running).power is Power.ON, 30, "the machine is known to run", Unreachable)
    lab.settle(lab.provider.begin_stop(running.identity, running.ref, StopMode.FORCE))
    assert lab.find(running).power is Power.OFF


def test_switching_everything_off_has_an_end(hypervisor: Hypervisor, lab: Lab, running: Made) -> None:
    """The machine is in its BIOS and heeds no power button."""
    began = time.monotonic()
    assert hypervisor.daemon.stop_machines(grace=0.5) >= 1
    assert time.monotonic() - began < 15
    assert lab.find(running).power is Power.OFF


# -- power ---------------------------------------------------------------------------------


def test_a_port_that_somebody_took_is_given_up(lab: Lab, made: Made, raw: "libvirt.virConnect") -> None:
    label = domain.parse(raw.lookupByUUIDString(made.ref).XMLDesc(0)).label
    assert label is not None
    with socket.create_server(("127.0.0.1", label.ssh_port)):
        lab.settle(lab.provider.begin_start(made.identity, made.ref))
        line = lab.line(made.ref)
        assert line is not None
        assert [endpoint.port for endpoint in line.endpoints] != [label.ssh_port]
        assert line.identity == made.identity


def test_an_emulator_that_dies_is_off(lab: Lab, running: Made) -> None:
    os.kill(qemu(running), signal.SIGKILL)
    until(lambda: lab.find(running).power is Power.OFF, 10, "it is seen off")


# -- disks ---------------------------------------------------------------------------------


def test_nothing_is_left_of_a_destroyed_machine(lab: Lab, hypervisor: Hypervisor) -> None:
    made = lab.create()
    assert len(list(hypervisor.daemon.pool_path.glob(f"{made.ref}*"))) == 2
    lab.destroy(made)
    assert list(hypervisor.daemon.pool_path.glob(f"{made.ref}*")) == []


def test_what_an_attempt_that_died_left_is_no_hindrance(lab: Lab, hypervisor: Hypervisor) -> None:
    made = lab.new()
    for name in (storage.disk_name(made.ref), storage.seed_name(made.ref)):
        volume(hypervisor, name).write_bytes(b"half")
    lab.settle(lab.provider.begin_create(made.identity, made.ref, made.spec))
    assert lab.find(made).stage is Stage.READY
    lab.settle(lab.provider.begin_start(made.identity, made.ref))
    lab.destroy(made)


def test_a_disk_that_is_gone_is_said_to_be_gone(lab: Lab, hypervisor: Hypervisor, made: Made) -> None:
    volume(hypervisor, storage.disk_name(made.ref)).unlink()
    assert lab.find(made).stage is Stage.BROKEN
    with pytest.raises(Incomplete) as raised:
        lab.provider.begin_start(made.identity, made.ref)
    assert "disk is gone" in raised.value.message


def test_a_template_whose_file_is_gone(lab: Lab, hypervisor: Hypervisor, made: Made) -> None:
    file = volume(hypervisor, TEMPLATE)
    aside = file.with_suffix(".aside")
    file.rename(aside)
    try:
        with pytest.raises(TemplateMissing):
            lab.provider.begin_start(made.identity, made.ref)
        other = lab.new()
        with pytest.raises(TemplateMissing):
            lab.provider.begin_create(other.identity, other.ref, other.spec)
        assert lab.find(other).presence is Presence.ABSENT
    finally:
        aside.rename(file)
    lab.settle(lab.provider.begin_start(made.identity, made.ref))


def test_a_full_pool_gets_no_new_machine(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SPARE_MIB", 10**9)
    made = lab.new()
    with pytest.raises(StorageFull):
        lab.provider.begin_create(made.identity, made.ref, made.spec)
    assert lab.find(made).presence is Presence.ABSENT


def test_a_look_says_what_the_pool_has_and_starts_none(lab: Lab, hypervisor: Hypervisor, raw: "libvirt.virConnect") -> None:
    disk = lab.provider.inventory().disk
    assert disk and 0 < disk.free_gib <= disk.total_gib
    (pool,) = raw.listAllStoragePools(0)
    pool.destroy()  # in libvirt's words: stop
    try:
        assert lab.provider.inventory().disk is None and not pool.isActive()
    finally:
        pool.create(0)


@pytest.mark.parametrize("linked", [True, False])
def test_a_disk_smaller_than_the_template(lab: Lab, tmp_path: Path, linked: bool) -> None:
    path = tmp_path / "large.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "3G"], check=True)
    large = lab.provider.import_template(str(path), f"large-{linked}")
    made = lab.new(template=large.ref, disk_gib=2, linked=linked)
    with pytest.raises(InvalidSpec) as raised:
        lab.provider.begin_create(made.identity, made.ref, made.spec)
    assert "smaller" in raised.value.message
    assert lab.find(made).presence is Presence.ABSENT
    lab.provider.delete_template(large.ref)


def capacity(hypervisor: Hypervisor, made: Made) -> int:
    """Of the disk, in bytes, as its header says."""
    with volume(hypervisor, storage.disk_name(made.ref)).open("rb") as file:
        return int.from_bytes(file.read(32)[24:32], "big")


@pytest.mark.parametrize("linked", [True, False])
def test_a_grown_disk_stays_grown_when_reverted(lab: Lab, hypervisor: Hypervisor, linked: bool) -> None:
    made = lab.new(linked=linked, disk_gib=2)
    lab.settle(lab.provider.begin_create(made.identity, made.ref, made.spec))
    lab.provider.ensure_configured(made.identity, made.ref, made.spec)
    assert capacity(hypervisor, made) == 2 * storage.GIB
    larger = replace(made.spec, disk_gib=3, cores=2)
    lab.settle(lab.provider.begin_resize(made.identity, made.ref, larger))
    assert capacity(hypervisor, made) == 3 * storage.GIB
    lab.settle(lab.provider.begin_revert(made.identity, made.ref, larger))
    assert capacity(hypervisor, made) == 3 * storage.GIB
    lab.destroy(made)


def test_half_a_copy_is_never_taken_for_a_machine(lab: Lab, hypervisor: Hypervisor, raw: "libvirt.virConnect", monkeypatch: pytest.MonkeyPatch) -> None:
    """Who copied died: the label says that a copy was begun, and nothing moves any more."""
    made = lab.new(linked=False)
    lab.settle(lab.provider.begin_create(made.identity, made.ref, made.spec))
    machine = raw.lookupByUUIDString(made.ref)
    xml = machine.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    raw.defineXML(re.sub(r"building-since=.0.", f"building-since='{int(time.time())}'", xml))

    task = TaskRef(made.ref, "copy")
    assert lab.find(made).stage is Stage.BUILDING
    assert lab.provider.poll([task])[task].state is TaskState.RUNNING
    assert lab.provider.begin_create(made.identity, made.ref, made.spec) == task
    with pytest.raises(Busy):
        lab.provider.ensure_configured(made.identity, made.ref, made.spec)
    monkeypatch.setattr(provider, "SETTLE_SECONDS", 0.0)
    assert lab.find(made).stage is Stage.BROKEN
    assert lab.provider.poll([task])[task].state is TaskState.LOST
    lab.destroy(made)


def test_a_copy_that_takes_long_is_a_task(lab: Lab, hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LibvirtProvider._in_background, "__kwdefaults__", {"wait": 0.0})
    copy_disk, told = storage.Storage.copy_disk, threading.Event()

    def copy_later(self: storage.Storage, ref: str, template: str) -> None:
        assert told.wait(60)
        copy_disk(self, ref, template)

    monkeypatch.setattr(storage.Storage, "copy_disk", copy_later)
    made = lab.new(linked=False)
    task = lab.provider.begin_create(made.identity, made.ref, made.spec)
    told.set()
    assert task == TaskRef(made.ref, "copy")
    lab.settle(task)
    assert lab.find(made).stage is Stage.READY
    lab.destroy(made)


# -- in the guest --------------------------------------------------------------------------


def test_the_guest_and_what_it_is_told(lab: Lab, hypervisor: Hypervisor) -> None:
    """One machine for all that needs a booted guest: seed, agent, screen, live snapshot, a larger disk."""
    seed = Seed("ward-7", "student", "pä\"ss'w\\rd $x", (lab.key.export_public_key().decode().strip(),), locale="de_DE.UTF-8", keyboard="de")
    made = replace(lab.new(disk_gib=3), spec=lab.new(disk_gib=3, seed=seed).spec)
    lab.settle(lab.provider.begin_create(made.identity, made.ref, made.spec))
    guest = lab.boot(made)

    # the seed
    assert guest.run("whoami", password=seed.password) == "student"
    assert guest.run("cat /etc/default/locale") == "LANG=de_DE.UTF-8"
    assert guest.run("cmp /etc/keymap.bmap /usr/share/keymaps/de.bmap && echo same") == "same"
    assert guest.run("sudo id -u") == "0"
    assert int(guest.run("df -m / | awk 'END { print $2 }'")) > 2800

    # addresses by the agent
    found = until(lambda: [e for e in lab.provider.endpoints(made.identity, made.ref) if e.source == "agent"], 30, "the agent answers")
    assert "10.0.2.15" in [endpoint.host for endpoint in found]

    # a console password opens once: the next one shuts it out
    first = lab.provider.open_console(made.identity, made.ref, ConsoleKind.SCREEN)
    second = lab.provider.open_console(made.identity, made.ref, ConsoleKind.SCREEN)
    assert (first.host, len(first.password)) == ("127.0.0.1", 8)
    assert asyncio.run(rfb_security_result(first, first.password)) != 0
    assert asyncio.run(rfb_security_result(second, second.password)) == 0

    # a snapshot while it runs has what was written just before
    guest.run("echo precious > precious.txt")
    lab.settle(lab.provider.begin_snapshot(made.identity, made.ref, "live"))
    assert [(snapshot.name, snapshot.with_memory) for snapshot in lab.provider.snapshots(made.identity, made.ref)] == [("live", True)]
    guest.run("rm precious.txt; sync")
    lab.force_off(made)
    with pytest.raises(NotRunning):
        lab.provider.screenshot(made.identity, made.ref)
    lab.settle(lab.provider.begin_revert(made.identity, made.ref, made.spec, "live"))
    assert lab.find(made).power is Power.OFF
    assert lab.boot(made).run("cat precious.txt") == "precious"
    lab.destroy(made)


# -- templates -----------------------------------------------------------------------------


def test_a_box_becomes_a_template_once(lab: Lab, tmp_path: Path) -> None:
    path = box(tmp_path / "small.box", {"metadata.json": metadata(), "box.img": golden_image().read_bytes()})
    info = lab.provider.import_template(str(path), "from-a-box")
    assert (info.name, info.disk_gib) == ("from-a-box", 1.0)
    with pytest.raises(InvalidSpec) as raised:
        lab.provider.import_template(str(golden_image()), "from-a-box")
    assert "already" in raised.value.message

    made = lab.new(template=info.ref)
    lab.settle(lab.provider.begin_create(made.identity, made.ref, made.spec))
    lab.settle(lab.provider.begin_start(made.identity, made.ref))
    with pytest.raises(Busy):
        lab.provider.delete_template(info.ref)
    assert info.ref in [template.ref for template in lab.provider.templates()]
    lab.destroy(made)
    lab.provider.delete_template(info.ref)
    assert info.ref not in [template.ref for template in lab.provider.templates()]


def test_half_an_import_is_no_template_and_no_hindrance(lab: Lab, hypervisor: Hypervisor) -> None:
    half = volume(hypervisor, "template-half.qcow2")
    with half.open("wb") as file:
        file.truncate(10_000_000)  # the header is sent last
    assert half.name not in [template.ref for template in lab.provider.templates()]
    other = lab.new(template=half.name)
    with pytest.raises(TemplateMissing):
        lab.provider.begin_create(other.identity, other.ref, other.spec)
    lab.provider.import_template(str(golden_image()), "half")
    assert half.name in [template.ref for template in lab.provider.templates()]
    lab.provider.delete_template(half.name)


@pytest.mark.parametrize("name", ["", "../evil", "a b", "-x", "x" * 100])
def test_names_no_template_may_have(lab: Lab, name: str) -> None:
    with pytest.raises(InvalidSpec):
        lab.provider.import_template(str(golden_image()), name)


def test_disks_of_machines_are_no_templates(lab: Lab, made: Made) -> None:
    assert storage.disk_name(made.ref) not in [template.ref for template in lab.provider.templates()]
    other = lab.new(template=storage.disk_name(made.ref))
    with pytest.raises(TemplateMissing):
        lab.provider.begin_create(other.identity, other.ref, other.spec)


def test_checks_of_a_cluster_nobody_answers_for(hypervisor: Hypervisor) -> None:
    nobody = hypervisor.provider(uri="qemu+unix:///session?socket=/nonexistent")
    checks = nobody.check()
    assert [check.ok for check in checks] == [False]
    assert checks[0].detail
    nobody.close()
