"""What is found, made and ours, and that nothing else is touched."""

from dataclasses import replace

import pytest

from machines.providers.base import Provider
from machines.providers.errors import ForeignMachine, InvalidSpec, NotRunning, TaskFailed, TemplateMissing, Unsupported
from machines.providers.types import Power, Presence, Stage, TaskRef, TaskState
from tests.machines.providers.lab import BehindOurBack, Lab, Made

from .bench import Bench
from .verbs import CHANGING_VERBS, EXTRA_VERBS


class Ownership(Bench):
    # -- looking -----------------------------------------------------------------------------

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

    # -- making ------------------------------------------------------------------------------

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
        lab.configure(made)
        lab.configure(made)
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

    # -- whose it is -------------------------------------------------------------------------

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

    # -- what is absent ----------------------------------------------------------------------

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
