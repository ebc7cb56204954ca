"""What is told to go wrong goes wrong in the way the interface names, and only for whom it was told."""

import time
from pathlib import Path

import pytest

from machines.providers.errors import Busy, InvalidSpec, NoCapacity, OutcomeUnknown, Overloaded, StorageFull, TaskFailed, TemplateMissing, Unreachable
from machines.providers.simulator import FaultKind, SimulatorProvider
from machines.providers.simulator.host import Timing
from machines.providers.types import Power, Presence, ProviderSettings, Stage, StopMode, TaskState

from .machines import identity, running, seconds_since, settle, spec
from .running import Simulated, simulator


def test_unreachable_until_mended(simulated: Simulated) -> None:
    provider, made = simulated.provider(), identity()
    assert provider.find(made, made.key).presence is Presence.ABSENT
    simulated.control.fault(FaultKind.UNREACHABLE)
    for call in (provider.inventory, lambda: provider.find(made, made.key), lambda: provider.begin_create(made, made.key, spec())):
        with pytest.raises(Unreachable):
            call()
    assert [check.ok for check in provider.check()] == [False]
    simulated.control.mend()
    assert provider.find(made, made.key).presence is Presence.ABSENT


def test_nobody_at_the_socket(tmp_path: Path) -> None:
    provider = SimulatorProvider(ProviderSettings("gone", "portal", {"socket": str(tmp_path / "socket")}))
    with pytest.raises(Unreachable):
        provider.inventory()
    with pytest.raises(Unreachable):
        provider.begin_create(identity(), "ref", spec())


def test_settings_without_a_socket() -> None:
    with pytest.raises(InvalidSpec):
        SimulatorProvider(ProviderSettings("wrong", "portal", {}))


def test_an_answer_that_got_lost_and_a_call_that_did(simulated: Simulated) -> None:
    provider, done, not_done = simulated.provider(), identity("done"), identity("not-done")
    simulated.control.fault(FaultKind.LOST_ANSWER, verb="create", machine="done")
    simulated.control.fault(FaultKind.LOST_CALL, verb="create", machine="not-done")
    for made in (done, not_done):
        with pytest.raises(OutcomeUnknown):
            provider.begin_create(made, made.key, spec())
    assert provider.find(done, done.key).presence is Presence.OURS
    assert provider.find(not_done, not_done.key).presence is Presence.ABSENT


def test_a_lost_answer_to_a_question_changes_nothing_and_says_so(simulated: Simulated) -> None:
    provider = simulated.provider()
    simulated.control.fault(FaultKind.LOST_ANSWER, verb="inventory")
    with pytest.raises(Unreachable):
        provider.inventory()
    assert provider.inventory().machines == ()


def test_slow_answers(simulated: Simulated) -> None:
    provider = simulated.provider()
    simulated.control.fault(FaultKind.SLOW, verb="inventory", seconds=0.3)
    began = time.monotonic()
    provider.inventory()
    assert seconds_since(began) >= 0.3


def test_an_answer_slower_than_the_timeout(simulated: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("machines.providers.simulator.client.TIMEOUT_SECONDS", 0.2)
    provider, made = simulated.provider(), identity()
    simulated.control.fault(FaultKind.SLOW, seconds=1, times=2)
    with pytest.raises(Unreachable):
        provider.inventory()
    with pytest.raises(OutcomeUnknown):
        provider.begin_create(made, made.key, spec())


@pytest.mark.parametrize(("kind", "error"), [(FaultKind.BUSY, Busy), (FaultKind.STORAGE_FULL, StorageFull)])
def test_refusals(simulated: Simulated, kind: FaultKind, error: type[Exception]) -> None:
    provider, made = simulated.provider(), identity()
    simulated.control.fault(kind, verb="create")
    with pytest.raises(error):
        provider.begin_create(made, made.key, spec())
    provider.begin_create(made, made.key, spec())


def test_the_third_clone_fails_with_a_reason(simulated: Simulated) -> None:
    provider = simulated.provider()
    simulated.control.fault(FaultKind.TASK_FAILS, verb="create", skip=2, reason="The disk of sim-2 has a bad block.")
    ends = [settle(provider, provider.begin_create(made, made.key, spec())) for made in (identity(f"web-{number}") for number in range(4))]
    assert [end.state for end in ends] == [TaskState.SUCCEEDED, TaskState.SUCCEEDED, TaskState.FAILED, TaskState.SUCCEEDED]
    assert isinstance(ends[2].error, TaskFailed)
    assert ends[2].error.message == "The disk of sim-2 has a bad block."
    assert [machine.name for machine in provider.inventory().machines] == ["web-0", "web-1", "web-3"]


def test_half_built(simulated: Simulated) -> None:
    provider, made = simulated.provider(), identity()
    simulated.control.fault(FaultKind.HALF_BUILT, machine=made.name)
    assert settle(provider, provider.begin_create(made, made.key, spec())).state is TaskState.FAILED
    assert provider.find(made, made.key).stage is Stage.BROKEN
    with pytest.raises(TaskFailed):
        provider.begin_start(made, made.key)
    settle(provider, provider.begin_destroy(made, made.key))
    settle(provider, provider.begin_create(made, made.key, spec()))
    assert provider.find(made, made.key).stage is Stage.READY


def test_a_task_nobody_knows_any_more(simulated: Simulated) -> None:
    provider, made, other = simulated.provider(), identity(), identity("other")
    simulated.control.fault(FaultKind.TASK_LOST, verb="create", machine=made.name)
    task = provider.begin_create(made, made.key, spec())
    later = provider.begin_create(other, other.key, spec())
    assert provider.poll([task])[task].state is TaskState.LOST
    simulated.control.forget_tasks()
    assert provider.poll([later])[later].state is TaskState.LOST
    for each in (made, other):
        while provider.find(each, each.key).stage is not Stage.READY:
            assert provider.wait_for_change(5)


def test_a_guest_that_ignores_the_power_button(simulated: Simulated) -> None:
    provider = simulated.provider()
    made = running(provider)
    simulated.control.ignore_power_button(made.key)
    task = provider.begin_stop(made, made.key, StopMode.GRACEFUL)
    assert provider.begin_stop(made, made.key, StopMode.GRACEFUL) == task
    assert provider.poll([task])[task].state is TaskState.RUNNING
    with pytest.raises(Busy):
        provider.begin_reboot(made, made.key)
    settle(provider, provider.begin_stop(made, made.key, StopMode.FORCE))
    assert provider.find(made, made.key).power is Power.OFF
    assert provider.poll([task])[task].state is TaskState.SUCCEEDED


def test_a_template_that_is_gone(simulated: Simulated) -> None:
    provider, made = simulated.provider(), identity()
    simulated.control.remove_template("debian-12")
    assert "debian-12" not in [template.ref for template in provider.templates()]
    with pytest.raises(TemplateMissing):
        provider.begin_create(made, made.key, spec())
    simulated.control.mend()
    provider.begin_create(made, made.key, spec())


def test_a_machine_that_goes_while_something_is_done_to_it(simulated: Simulated) -> None:
    provider = simulated.provider()
    made = running(provider)
    task = provider.begin_reboot(made, made.key)
    simulated.control.delete(made.key)
    assert provider.find(made, made.key).presence is Presence.ABSENT
    assert provider.poll([task])[task].state is TaskState.FAILED


def test_memory_runs_out_and_comes_back() -> None:
    with simulator(nodes=1, node_memory_mib=1024) as small:
        provider = small.provider()
        machines = [identity(f"web-{number}") for number in range(3)]
        for made in machines:
            settle(provider, provider.begin_create(made, made.key, spec()))
        settle(provider, provider.begin_start(machines[0], machines[0].key))
        task = provider.begin_start(machines[1], machines[1].key)
        with pytest.raises(NoCapacity):
            provider.begin_start(machines[2], machines[2].key)
        settle(provider, task)
        settle(provider, provider.begin_stop(machines[0], machines[0].key, StopMode.FORCE))
        settle(provider, provider.begin_start(machines[2], machines[2].key))
        assert provider.inventory().nodes[0].memory_free_mib == 0


def test_storage_runs_out() -> None:
    with simulator(storage_gib=3) as small:
        provider = small.provider()
        first, second = identity("first"), identity("second")
        settle(provider, provider.begin_create(first, first.key, spec(linked=False)))
        with pytest.raises(StorageFull):
            provider.begin_create(second, second.key, spec(linked=False))
        assert provider.find(second, second.key).presence is Presence.ABSENT
        settle(provider, provider.begin_destroy(first, first.key))
        settle(provider, provider.begin_create(second, second.key, spec(linked=False)))


def test_the_storage_locks_for_so_many_clones_at_once() -> None:
    with simulator(timing=Timing(create=0.2), clones=1) as small:
        provider = small.provider()
        first, second = identity("first"), identity("second")
        task = provider.begin_create(first, first.key, spec())
        with pytest.raises(Overloaded):
            provider.begin_create(second, second.key, spec())
        assert provider.find(second, second.key).presence is Presence.ABSENT
        settle(provider, task)
        settle(provider, provider.begin_create(second, second.key, spec()))


def test_work_queues_for_the_places_of_the_host() -> None:
    with simulator(timing=Timing(create=0.2), parallel=2) as small:
        provider = small.provider()
        began = time.monotonic()
        tasks = [provider.begin_create(made, made.key, spec()) for made in (identity(f"web-{number}") for number in range(6))]
        progress = [provider.poll(tasks)[task].progress for task in tasks]
        assert progress[2:] == [0, 0, 0, 0]
        for task in tasks:
            assert settle(provider, task).state is TaskState.SUCCEEDED
        assert seconds_since(began) >= 0.6
        assert small.control.figures()["busiest"] == 2
