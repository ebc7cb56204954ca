"""What goes on in the guest: the seed, the disk, snapshots, sizes, passwords."""

import hashlib
from dataclasses import replace

import pytest

from machines.providers.errors import InvalidSpec, ProviderError, TaskFailed
from machines.providers.types import Power, Presence
from tests.machines.providers.lab import Guest, Lab, Made, until

from .bench import Bench


class Guests(Bench):
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
        larger = replace(made.spec, cores=2, memory_mib=self.memory_mib * 2, disk_gib=self.larger_gib)
        for _ in range(2):
            lab.settle(lab.provider.begin_resize(made.identity, made.ref, larger))
        for wrong in (replace(larger, disk_gib=self.larger_gib - 1), replace(larger, cores=0), replace(larger, memory_mib=0)):
            with pytest.raises(InvalidSpec):
                lab.settle(lab.provider.begin_resize(made.identity, made.ref, wrong))
        if self.guests_are_real:
            assert lab.boot(replace(made, spec=larger)).run("nproc") == "2"

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
