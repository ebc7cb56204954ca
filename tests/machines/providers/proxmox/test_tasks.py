"""Following tasks on a cluster of which a part does not answer."""

import time

import pytest

from machines.providers.errors import Unreachable
from machines.providers.proxmox import tasks
from machines.providers.types import TaskRef, TaskState

from .desk import Desk


def test_a_node_that_hangs_holds_up_its_own_tasks_only(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "POLL_SECONDS", 1.5)
    desk.control.settings(durations={"qmclone": 10_000})
    task = desk.new().create()
    assert task
    elsewhere = TaskRef(task.id.replace("UPID:pve1", "UPID:pve2"), "create", "pve2")
    desk.control.fault("GET", "/nodes/pve2/tasks/.*", hang=True, times=20)
    began = time.monotonic()
    assert desk.provider.poll([elsewhere, task])[task].state is TaskState.RUNNING
    first = time.monotonic() - began
    assert {status.state for status in desk.provider.poll([elsewhere, task]).values()} == {TaskState.RUNNING}
    assert first < 3 and time.monotonic() - began - first < 1  # it is left alone for a while
    assert desk.provider.poll([elsewhere])[elsewhere].state is TaskState.RUNNING


def test_a_cluster_that_does_not_answer_is_no_node_that_hangs(desk: Desk) -> None:
    task = desk.new().create()
    assert task
    for number in range(2):
        desk.control.endpoint(number, up=False)
    try:
        with pytest.raises(Unreachable):
            desk.another().poll([task])
    finally:
        for number in range(2):
            desk.control.endpoint(number, up=True)
