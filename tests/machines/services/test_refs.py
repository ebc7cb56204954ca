"""Numbers for machines: from the cluster's range, nobody else's, and not again for a while."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from machines.lifecycle import State
from machines.models import BurnedRef, OperationState
from machines.providers.errors import InvalidSpec, NoCapacity
from machines.providers.types import Capabilities
from machines.services import refs, requests
from tests.factories import make_machine
from tests.machines.providers import fakes

pytestmark = pytest.mark.django_db


@pytest.fixture
def numbered(monkeypatch, cluster):
    monkeypatch.setattr(fakes.FakeProvider, "capabilities", Capabilities(numbered=True))
    cluster.config = {"vmids": [500, 503]}
    cluster.save()
    return cluster


def new(cluster, ref=""):
    machine = make_machine(template=cluster.templates.get(), state=State.PENDING)
    type(machine).objects.filter(pk=machine.pk).update(ref=ref)
    machine.ref = ref
    return machine


def test_each_machine_gets_a_number_of_the_range_that_nobody_has(numbered):
    numbered.taken = ["501"]
    numbered.save()
    assert [refs.take(new(numbered)) for _ in range(3)] == ["500", "502", "503"]
    with pytest.raises(NoCapacity):
        refs.take(new(numbered))


def test_a_number_found_taken_is_not_used_again_for_a_month(numbered):
    machine = new(numbered)
    machine.ref = refs.take(machine)
    assert refs.take(machine) == "501"
    with time_machine.travel(timezone.now() + timedelta(days=29)):
        refs.trim()
        assert refs.take(new(numbered)) == "502"
    with time_machine.travel(timezone.now() + timedelta(days=31)):
        refs.trim()
        assert not BurnedRef.objects.exists() and refs.take(new(numbered)) == "500"


def test_the_number_of_a_destroyed_machine_rests(numbered, carry_on):
    machine = requests.create_machine(acting_user=None, template=numbered.templates.get(), name="web-01", cores=1, memory_mib=256)
    assert carry_on(machine.operations.get()).state == OperationState.SUCCEEDED
    machine.refresh_from_db()
    assert machine.ref == "500"
    assert carry_on(requests.destroy(machine, acting_user=None)).state == OperationState.SUCCEEDED
    assert refs.take(new(numbered)) == "501"


@pytest.mark.parametrize("vmids", [[99, 200], [300, 200], [100, 10**9], ["100", "200"], 100, [100], None])
def test_a_range_that_is_none_is_refused(numbered, vmids):
    numbered.config = {"vmids": vmids}
    numbered.save()
    with pytest.raises(InvalidSpec):
        refs.take(new(numbered))


def test_other_clusters_go_by_the_machines_key(cluster):
    machine = new(cluster)
    assert refs.take(machine) == str(machine.key)
    machine.ref = str(machine.key)
    assert refs.take(machine) not in ("", str(machine.key))
    assert not BurnedRef.objects.exists()
