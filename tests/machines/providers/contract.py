"""What every provider promises, as tests. A subclass says how to connect and which template to take.

    class TestMyProvider(ProviderContract):
        @pytest.fixture(scope="class")
        @classmethod
        def connect(cls): return lambda: MyProvider(settings)

        @pytest.fixture(scope="class")
        @classmethod
        def template(cls): return "debian-12"

The template's guest must take its user, password, key and host name from the seed, answer SSH
and obey the power button. Tests that need a booted guest share one machine, `booted`; each
puts it into the state it needs, so they run in any order.
"""

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import ClassVar

import pytest

from machines.providers.base import Provider
from machines.providers.errors import ForeignMachine, InvalidSpec, NotRunning, ProviderError, TaskFailed, TemplateMissing, Unsupported
from machines.providers.types import (
    ConsoleKind,
    MachineIdentity,
    MachineSpec,
    Power,
    Presence,
    Stage,
    StopMode,
    TaskRef,
    TaskState,
)

from .lab import BehindOurBack, Guest, Lab, Made, rfb_security_result, until

Verb = Callable[[Provider, MachineIdentity, str, MachineSpec], object]

CHANGING_VERBS: dict[str, Verb] = {
    "create": lambda provider, identity, ref, spec: provider.begin_create(identity, ref, spec),
    "configure": lambda provider, identity, ref, spec: provider.ensure_configured(identity, ref, spec),
    "start": lambda provider, identity, ref, spec: provider.begin_start(identity, ref),
    "stop": lambda provider, identity, ref, spec: provider.begin_stop(identity, ref, StopMode.GRACEFUL),
    "force off": lambda provider, identity, ref, spec: provider.begin_stop(identity, ref, StopMode.FORCE),
    "reboot": lambda provider, identity, ref, spec: provider.begin_reboot(identity, ref),
    "revert": lambda provider, identity, ref, spec: provider.begin_revert(identity, ref, spec),
    "destroy": lambda provider, identity, ref, spec: provider.begin_destroy(identity, ref),
}
EXTRA_VERBS: dict[str, list[Verb]] = {
    "snapshots": [
        lambda provider, identity, ref, spec: provider.snapshots(identity, ref),
        lambda provider, identity, ref, spec: provider.begin_snapshot(identity, ref, "kept"),
        lambda provider, identity, ref, spec: provider.begin_delete_snapshot(identity, ref, "kept"),
    ],
    "resize": [lambda provider, identity, ref, spec: provider.begin_resize(identity, ref, spec)],
    "endpoints": [lambda provider, identity, ref, spec: provider.endpoints(identity, ref)],
    "guest_password": [lambda provider, identity, ref, spec: provider.set_guest_password(identity, ref, "student", "secret")],
    "screenshot": [lambda provider, identity, ref, spec: provider.screenshot(identity, ref)],
    "screen": [lambda provider, identity, ref, spec: provider.open_console(identity, ref, ConsoleKind.SCREEN)],
    "terminal": [lambda provider, identity, ref, spec: provider.open_console(identity, ref, ConsoleKind.TERMINAL)],
}
CLUSTER_EXTRAS: dict[str, Callable[[Provider], object]] = {
    "metrics": lambda provider: provider.metrics(),
    "templates": lambda provider: provider.templates(),
    "import_template": lambda provider: provider.import_template("/nonexistent.qcow2", "image"),
    "events": lambda provider: provider.wait_for_change(0.01),
}


class ProviderContract:
    boot_seconds: ClassVar[float] = 120.0  # how long a guest may take from power-on to its SSH banner
    task_seconds: ClassVar[float] = 60.0  # how long a task of the hypervisor may take
    memory_mib: ClassVar[int] = 128

    @pytest.fixture(scope="class")
    @classmethod
    def connect(cls) -> Callable[[], Provider]:
        """Makes a new, independent instance of the provider."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def template(cls) -> str:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def behind_our_back(cls) -> BehindOurBack:
        """What others can do to machines. Providers that offer no such way skip these tests."""
        pytest.skip("nothing can be done behind this provider's back")

    @pytest.fixture(scope="class")
    @classmethod
    def lab(cls, connect: Callable[[], Provider], template: str) -> Iterator[Lab]:
        lab = Lab(connect, template, memory_mib=cls.memory_mib, task_seconds=cls.task_seconds, boot_seconds=cls.boot_seconds)
        yield lab
        lab.close()

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, lab: Lab) -> Provider:
        return lab.provider

    @pytest.fixture
    def made(self, lab: Lab) -> Iterator[Made]:
        """A machine of our own that is off and was never on."""
        made = lab.create()
        yield made
        lab.destroy(made)

    @pytest.fixture
    def stranger(self, lab: Lab) -> Iterator[Made]:
        """A machine at a ref of ours that carries the label of another portal."""
        made = lab.create(replace(lab.new().identity, portal="another-portal"))
        yield made
        lab.destroy(made)

    @pytest.fixture(scope="class")
    @classmethod
    def shared_machine(cls, lab: Lab) -> Made:
        return lab.create()

    @pytest.fixture
    def booted(self, lab: Lab, shared_machine: Made) -> Guest:
        return lab.boot(shared_machine)

    # -- looking ---------------------------------------------------------------------------

    def test_a_cluster_that_works_passes_its_own_checks(self, provider: Provider) -> None:
        checks = provider.check()
        assert checks
        assert [check for check in checks if not check.ok] == []

    def test_nothing_is_found_where_nothing_is(self, lab: Lab) -> None:
        absent = lab.new()
        assert lab.find(absent).presence is Presence.ABSENT
        assert lab.line(absent.ref) is None

    def test_tasks_nobody_knows_are_lost_and_do_not_spoil_the_others(self, lab: Lab) -> None:
        made = lab.new()
        task = lab.provider.begin_create(made.identity, made.ref, made.spec)
        unknown = [TaskRef("no-such-task-1"), TaskRef("no-such-task-2", kind="start")]
        statuses = lab.provider.poll([*unknown, *([task] if task else [])])
        assert {statuses[ref].state for ref in unknown} == {TaskState.LOST}
        assert len(statuses) == 2 + bool(task)
        if task:
            assert statuses[task].state in (TaskState.RUNNING, TaskState.SUCCEEDED)
        lab.settle(task)
        assert lab.provider.poll([]) == {}

    def test_a_task_ref_survives_being_stored(self, lab: Lab, made: Made) -> None:
        task = lab.provider.begin_start(made.identity, made.ref)
        lab.settle(TaskRef.from_json(task.to_json()) if task else None)
        assert lab.find(made).power is Power.ON

    # -- making ----------------------------------------------------------------------------

    def test_what_is_made_is_ours_off_and_labelled(self, lab: Lab, made: Made) -> None:
        sighting = lab.find(made)
        assert (sighting.presence, sighting.stage, sighting.power) == (Presence.OURS, Stage.READY, Power.OFF)
        line = lab.line(made.ref)
        assert line is not None
        assert line.identity == made.identity
        assert (line.stage, line.power) == (Stage.READY, Power.OFF)
        assert made.identity.name in line.name

    def test_the_label_is_there_from_the_first_moment(self, lab: Lab) -> None:
        made = lab.new()
        task = lab.provider.begin_create(made.identity, made.ref, made.spec)
        assert lab.find(made).presence is Presence.OURS
        lab.settle(task)

    def test_making_twice_makes_one(self, lab: Lab, made: Made) -> None:
        lab.settle(lab.provider.begin_create(made.identity, made.ref, made.spec))
        lab.provider.ensure_configured(made.identity, made.ref, made.spec)
        lab.provider.ensure_configured(made.identity, made.ref, made.spec)
        mine = [line for line in lab.provider.inventory().machines if line.identity == made.identity]
        assert [line.ref for line in mine] == [made.ref]

    def test_a_template_that_is_not_there(self, lab: Lab) -> None:
        made = lab.new(template="no-such-template")
        with pytest.raises(TemplateMissing) as raised:
            lab.settle(lab.provider.begin_create(made.identity, made.ref, made.spec))
        assert raised.value.message
        assert lab.find(made).presence is Presence.ABSENT

    @pytest.mark.parametrize("wrong", [{"cores": 0}, {"memory_mib": 0}])
    def test_a_form_no_machine_can_have(self, lab: Lab, wrong: dict[str, int]) -> None:
        made = lab.new(**wrong)
        with pytest.raises(InvalidSpec):
            lab.settle(lab.provider.begin_create(made.identity, made.ref, made.spec))
        assert lab.find(made).presence is Presence.ABSENT

    def test_a_full_clone(self, lab: Lab) -> None:
        made = lab.new(linked=False)
        if not lab.provider.capabilities.full_clone:
            with pytest.raises(Unsupported):
                lab.provider.begin_create(made.identity, made.ref, made.spec)
            return
        lab.settle(lab.provider.begin_create(made.identity, made.ref, made.spec))
        assert lab.find(made).presence is Presence.OURS

    # -- whose it is -----------------------------------------------------------------------

    def test_the_same_key_from_another_portal_is_foreign(self, lab: Lab, stranger: Made) -> None:
        ours = replace(stranger.identity, portal=lab.portal)
        assert lab.provider.find(ours, stranger.ref).presence is Presence.FOREIGN

    def test_another_key_of_our_portal_is_foreign(self, lab: Lab, made: Made) -> None:
        assert lab.provider.find(lab.new().identity, made.ref).presence is Presence.FOREIGN

    @pytest.mark.parametrize("verb", CHANGING_VERBS)
    def test_no_verb_touches_what_is_not_ours(self, lab: Lab, stranger: Made, verb: str) -> None:
        ours = replace(stranger.identity, portal=lab.portal)
        before = lab.line(stranger.ref)
        with pytest.raises(ForeignMachine):
            lab.settle(CHANGING_VERBS[verb](lab.provider, ours, stranger.ref, stranger.spec))
        assert lab.line(stranger.ref) == before

    def test_no_extra_touches_or_shows_what_is_not_ours(self, lab: Lab, stranger: Made) -> None:
        ours = replace(stranger.identity, portal=lab.portal)
        before = lab.line(stranger.ref)
        for flag, calls in EXTRA_VERBS.items():
            if getattr(lab.provider.capabilities, flag):
                for call in calls:
                    with pytest.raises(ForeignMachine):
                        lab.settle(call(lab.provider, ours, stranger.ref, stranger.spec))
        assert lab.line(stranger.ref) == before

    def test_the_machine_of_a_stranger_is_foreign_and_left_alone(self, lab: Lab, behind_our_back: BehindOurBack) -> None:
        made = lab.new()
        behind_our_back.plant(made.ref)
        assert lab.find(made).presence is Presence.FOREIGN
        line = lab.line(made.ref)
        assert line is not None
        assert line.identity is None
        for verb in CHANGING_VERBS.values():
            with pytest.raises(ForeignMachine):
                lab.settle(verb(lab.provider, made.identity, made.ref, made.spec))
        assert lab.line(made.ref) == line
        behind_our_back.delete(made.ref)

    # -- what is absent --------------------------------------------------------------------

    @pytest.mark.parametrize("verb", ["configure", "start", "reboot", "revert"])
    def test_what_is_absent_cannot_be_worked_on(self, lab: Lab, verb: str) -> None:
        absent = lab.new()
        with pytest.raises(TaskFailed):
            lab.settle(CHANGING_VERBS[verb](lab.provider, absent.identity, absent.ref, absent.spec))

    @pytest.mark.parametrize("verb", ["stop", "force off", "destroy"])
    def test_what_is_absent_is_off_and_gone(self, lab: Lab, verb: str) -> None:
        absent = lab.new()
        lab.settle(CHANGING_VERBS[verb](lab.provider, absent.identity, absent.ref, absent.spec))
        assert lab.find(absent).presence is Presence.ABSENT

    def test_extras_on_what_is_absent_fail(self, lab: Lab) -> None:
        absent = lab.new()
        for flag, calls in EXTRA_VERBS.items():
            if getattr(lab.provider.capabilities, flag):
                for call in calls:
                    with pytest.raises((TaskFailed, NotRunning)):
                        lab.settle(call(lab.provider, absent.identity, absent.ref, absent.spec))

    # -- power -----------------------------------------------------------------------------

    def test_starting_and_forcing_off_each_twice(self, lab: Lab, made: Made) -> None:
        for _ in range(2):
            lab.settle(lab.provider.begin_start(made.identity, made.ref))
            assert lab.find(made).power is Power.ON
        line = lab.line(made.ref)
        assert line is not None
        assert line.power is Power.ON
        for _ in range(2):
            lab.settle(lab.provider.begin_stop(made.identity, made.ref, StopMode.FORCE))
            assert lab.find(made).power is Power.OFF

    def test_the_power_button_of_what_is_off(self, lab: Lab, made: Made) -> None:
        lab.settle(lab.provider.begin_stop(made.identity, made.ref, StopMode.GRACEFUL))
        assert lab.find(made).power is Power.OFF

    def test_what_is_off_cannot_be_rebooted(self, lab: Lab, made: Made) -> None:
        with pytest.raises(NotRunning):
            lab.settle(lab.provider.begin_reboot(made.identity, made.ref))
        assert lab.find(made).power is Power.OFF

    def test_destroying_twice_and_while_it_runs(self, lab: Lab) -> None:
        made = lab.create()
        lab.settle(lab.provider.begin_start(made.identity, made.ref))
        for _ in range(2):
            lab.settle(lab.provider.begin_destroy(made.identity, made.ref))
            assert lab.find(made).presence is Presence.ABSENT
        assert lab.line(made.ref) is None

    def test_a_ref_can_be_used_again_after_destroying(self, lab: Lab) -> None:
        first = lab.create()
        lab.destroy(first)
        again = lab.create(first.identity, first.ref)
        assert lab.find(again).presence is Presence.OURS
        lab.destroy(again)

    def test_the_power_button_is_obeyed(self, lab: Lab, booted: Guest) -> None:
        made = booted.made
        lab.settle(lab.provider.begin_stop(made.identity, made.ref, StopMode.GRACEFUL))
        until(lambda: lab.find(made).power is Power.OFF, self.task_seconds, "the guest is off")

    def test_a_reboot_brings_the_guest_back(self, lab: Lab, booted: Guest) -> None:
        made = booted.made
        booted.run("echo kept > kept.txt; sync")
        before = booted.run("cat /proc/sys/kernel/random/boot_id")
        lab.settle(lab.provider.begin_reboot(made.identity, made.ref))
        again = lab.boot(made)
        until(lambda: again.run("cat /proc/sys/kernel/random/boot_id") != before, self.boot_seconds, "the guest booted anew", OSError)
        assert again.run("cat kept.txt") == "kept"

    # -- the guest -------------------------------------------------------------------------

    def test_the_seed_makes_the_account_and_the_host_name(self, booted: Guest) -> None:
        seed = booted.made.spec.seed
        assert seed is not None
        assert booted.run("whoami") == seed.username
        assert booted.run("hostname") == seed.hostname
        assert booted.run("whoami", password=seed.password) == seed.username
        with pytest.raises(PermissionError):
            booted.run("whoami", password="not the password")

    def test_what_runs_is_in_the_inventory_with_its_address(self, lab: Lab, booted: Guest) -> None:
        line = lab.line(booted.made.ref)
        assert line is not None
        assert line.power is Power.ON
        assert line.identity == booted.made.identity
        assert any(endpoint.service == "ssh" and endpoint.port for endpoint in line.endpoints)

    def test_reverting_throws_away_what_was_done(self, lab: Lab, booted: Guest) -> None:
        made = booted.made
        booted.run("echo broken > broken.txt; sync")
        assert booted.run("cat broken.txt") == "broken"
        lab.force_off(made)
        for _ in range(2):
            lab.settle(lab.provider.begin_revert(made.identity, made.ref, made.spec))
            assert lab.find(made).power is Power.OFF
        again = lab.boot(made)
        assert "broken.txt" not in again.run("ls")
        assert again.run("hostname") == made.spec.seed.hostname

    def test_own_snapshots(self, lab: Lab, booted: Guest) -> None:
        made, provider = booted.made, lab.provider
        if not provider.capabilities.snapshots:
            pytest.skip("has no snapshots; test_a_flag_that_is_down checks that it says so")
        booted.run("echo first > first.txt; sync")
        lab.force_off(made)
        for _ in range(2):
            lab.settle(provider.begin_snapshot(made.identity, made.ref, "first"))
        assert [snapshot.name for snapshot in provider.snapshots(made.identity, made.ref)] == ["first"]
        lab.boot(made).run("echo second > second.txt; sync")
        lab.force_off(made)
        lab.settle(provider.begin_snapshot(made.identity, made.ref, "second"))
        assert [snapshot.name for snapshot in provider.snapshots(made.identity, made.ref)] == ["first", "second"]

        lab.settle(provider.begin_revert(made.identity, made.ref, made.spec, "first"))
        files = lab.boot(made).run("ls")
        assert "first.txt" in files
        assert "second.txt" not in files
        lab.force_off(made)

        lab.settle(provider.begin_revert(made.identity, made.ref, made.spec))
        assert [snapshot.name for snapshot in provider.snapshots(made.identity, made.ref)] == ["first", "second"]
        assert "first.txt" not in lab.boot(made).run("ls")
        lab.force_off(made)

        with pytest.raises(TaskFailed):
            lab.settle(provider.begin_revert(made.identity, made.ref, made.spec, "never-taken"))
        for name in ("first", "second", "second"):
            lab.settle(provider.begin_delete_snapshot(made.identity, made.ref, name))
        assert provider.snapshots(made.identity, made.ref) == []
        assert lab.find(made).presence is Presence.OURS

    def test_destroying_takes_the_snapshots_along(self, lab: Lab) -> None:
        if not lab.provider.capabilities.snapshots:
            pytest.skip("has no snapshots; test_a_flag_that_is_down checks that it says so")
        made = lab.create()
        lab.settle(lab.provider.begin_snapshot(made.identity, made.ref, "kept"))
        lab.destroy(made)
        again = lab.create(made.identity, made.ref)
        assert lab.provider.snapshots(again.identity, again.ref) == []
        lab.destroy(again)

    def test_resizing(self, lab: Lab, made: Made) -> None:
        if not lab.provider.capabilities.resize:
            pytest.skip("cannot resize; test_a_flag_that_is_down checks that it says so")
        larger = replace(made.spec, cores=2, memory_mib=self.memory_mib * 2, disk_gib=2)
        for _ in range(2):
            lab.settle(lab.provider.begin_resize(made.identity, made.ref, larger))
        for wrong in (replace(larger, disk_gib=1), replace(larger, cores=0), replace(larger, memory_mib=0)):
            with pytest.raises(InvalidSpec):
                lab.settle(lab.provider.begin_resize(made.identity, made.ref, wrong))
        guest = lab.boot(replace(made, spec=larger))
        assert guest.run("nproc") == "2"

    def test_a_new_password_in_the_guest(self, lab: Lab, booted: Guest) -> None:
        if not lab.provider.capabilities.guest_password:
            pytest.skip("cannot set passwords; test_a_flag_that_is_down checks that it says so")
        made = booted.made
        assert made.spec.seed is not None
        new = hashlib.sha256(made.ref.encode()).hexdigest()[:16]
        # The agent in the guest may come up a little after SSH.
        until(lambda: lab.provider.set_guest_password(made.identity, made.ref, made.spec.seed.username, new) is None, 30, "the agent answers", ProviderError)
        assert booted.run("whoami", password=new) == made.spec.seed.username
        with pytest.raises(PermissionError):
            booted.run("whoami", password=made.spec.seed.password)
        lab.provider.set_guest_password(made.identity, made.ref, made.spec.seed.username, made.spec.seed.password)

    def test_addresses_from_the_guest(self, lab: Lab, booted: Guest) -> None:
        if not lab.provider.capabilities.endpoints:
            pytest.skip("knows no addresses; test_a_flag_that_is_down checks that it says so")
        found = until(lambda: lab.provider.endpoints(booted.made.identity, booted.made.ref), 30, "an address is known")
        assert all(endpoint.host for endpoint in found)

    # -- consoles and figures --------------------------------------------------------------

    def test_the_screen_opens_with_its_password_and_no_other(self, lab: Lab, booted: Guest) -> None:
        if not lab.provider.capabilities.screen:
            pytest.skip("has no screen; test_a_flag_that_is_down checks that it says so")
        made = booted.made
        target = lab.provider.open_console(made.identity, made.ref, ConsoleKind.SCREEN)
        assert target.kind is ConsoleKind.SCREEN
        assert target.password not in repr(target)
        assert asyncio.run(rfb_security_result(target, target.password[::-1] + "x")) != 0
        target = lab.provider.open_console(made.identity, made.ref, ConsoleKind.SCREEN)
        assert asyncio.run(rfb_security_result(target, target.password)) == 0

    def test_screens_of_what_is_off(self, lab: Lab, made: Made) -> None:
        for flag in ("screen", "screenshot", "terminal"):
            if getattr(lab.provider.capabilities, flag):
                for call in EXTRA_VERBS[flag]:
                    with pytest.raises(NotRunning):
                        call(lab.provider, made.identity, made.ref, made.spec)

    def test_a_screenshot_is_a_png(self, lab: Lab, booted: Guest) -> None:
        if not lab.provider.capabilities.screenshot:
            pytest.skip("has no screenshots; test_a_flag_that_is_down checks that it says so")
        picture = lab.provider.screenshot(booted.made.identity, booted.made.ref)
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")
        assert b"IEND" in picture[-12:]

    def test_load_is_measured(self, lab: Lab, booted: Guest) -> None:
        if not lab.provider.capabilities.metrics:
            pytest.skip("has no metrics; test_a_flag_that_is_down checks that it says so")
        lab.provider.metrics()  # a share of the processor is the difference of two looks
        load = {metrics.ref: metrics for metrics in lab.provider.metrics()}[booted.made.ref]
        assert load.cpu is None or 0 <= load.cpu <= 1
        assert load.memory_mib is None or load.memory_mib > 0

    # -- the cluster -----------------------------------------------------------------------

    def test_templates_are_listed(self, lab: Lab) -> None:
        if not lab.provider.capabilities.templates:
            pytest.skip("lists no templates; test_a_flag_that_is_down checks that it says so")
        assert lab.template in [template.ref for template in lab.provider.templates()]

    def test_a_flag_that_is_down(self, lab: Lab, made: Made) -> None:
        """What a provider does not claim, it refuses in the agreed way."""
        capabilities = lab.provider.capabilities
        for flag, calls in EXTRA_VERBS.items():
            if not getattr(capabilities, flag):
                for call in calls:
                    with pytest.raises(Unsupported):
                        call(lab.provider, made.identity, made.ref, made.spec)
        for flag, ask in CLUSTER_EXTRAS.items():
            if not getattr(capabilities, flag):
                with pytest.raises(Unsupported):
                    ask(lab.provider)

    def test_a_change_wakes_whoever_waits(self, lab: Lab, made: Made, connect: Callable[[], Provider]) -> None:
        if not lab.provider.capabilities.events:
            pytest.skip("has no events; test_a_flag_that_is_down checks that it says so")
        woken: list[bool] = []
        listening = threading.Event()

        def wait() -> None:
            watcher = connect()
            try:
                watcher.inventory()
                until(lambda: not watcher.wait_for_change(0.2), 30, "the cluster is quiet")
                listening.set()
                woken.append(watcher.wait_for_change(20))
            finally:
                watcher.close()

        thread = threading.Thread(target=wait)
        thread.start()
        assert listening.wait(40)
        began = time.monotonic()
        lab.settle(lab.provider.begin_start(made.identity, made.ref))
        thread.join(30)
        assert woken == [True]
        assert time.monotonic() - began < 20

    def test_switched_off_behind_our_back(self, lab: Lab, made: Made, behind_our_back: BehindOurBack) -> None:
        lab.settle(lab.provider.begin_start(made.identity, made.ref))
        behind_our_back.power_off(made.ref)
        assert lab.find(made).power is Power.OFF

    def test_deleted_behind_our_back(self, lab: Lab, made: Made, behind_our_back: BehindOurBack) -> None:
        behind_our_back.delete(made.ref)
        assert lab.find(made).presence is Presence.ABSENT
        assert lab.line(made.ref) is None
        with pytest.raises(TaskFailed):
            lab.settle(lab.provider.begin_start(made.identity, made.ref))
