"""Screens and figures, and what belongs to the cluster as a whole."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from machines.providers.base import Provider
from machines.providers.errors import NotRunning, TaskFailed, Unsupported
from machines.providers.types import ConsoleKind, Power, Presence
from tests.machines.providers.lab import BehindOurBack, Guest, Lab, Made, rfb_security_result, until

from .bench import Bench
from .verbs import CLUSTER_EXTRAS, EXTRA_VERBS


class Extras(Bench):
    # -- consoles and figures ----------------------------------------------------------------

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

    # -- the cluster -------------------------------------------------------------------------

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
