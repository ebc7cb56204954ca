"""Switching on and off, restarting and destroying."""

import pytest

from machines.providers.errors import NotRunning
from machines.providers.types import Power, Presence, StopMode
from tests.machines.providers.lab import Guest, Lab, Made, until

from .bench import Bench


class PowerAndDestroying(Bench):
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
            lab.destroy(made)
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
