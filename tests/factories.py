"""Rows for tests, each with sensible values and only what the test is about given by it."""

from datetime import timedelta
from itertools import count
from typing import Any

from allauth.account.models import EmailAddress
from django.utils import timezone

from accounts.models import Role, User
from machines.lifecycle import MOVING, Kind, State
from machines.models import Batch, Cluster, Machine, MachineRequest, Operation, Template, Tier

_number = count(1)

PASSWORD = "correct horse battery"


def make_user(username: str = "", *, role: str = Role.STUDENT, **fields: Any) -> User:
    """Signs in with PASSWORD, by name or by an address that is confirmed."""
    username = username or f"{role}{next(_number)}"
    fields.setdefault("email", f"{username}@uni.test")
    user = User.objects.create_user(username, password=PASSWORD, role=role, is_staff=role == Role.STAFF, **fields)
    if user.email:
        EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


def make_cluster(name: str = "", *, kind: str = "simulator", **fields: Any) -> Cluster:
    fields.setdefault("reachable", True)
    fields.setdefault("seen_at", timezone.now())
    return Cluster.objects.create(name=name or f"cluster{next(_number)}", kind=kind, **fields)


def make_template(cluster: Cluster | None = None, *, ref: str = "tiny", **fields: Any) -> Template:
    fields.setdefault("name", ref)
    return Template.objects.create(cluster=cluster or make_cluster(), ref=ref, **fields)


def make_machine(
    name: str = "", *, owner: User | None = None, template: Template | None = None, cluster: Cluster | None = None, state: str = State.STOPPED, **fields: Any
) -> Machine:
    """A machine that was made once (unless pending); in a moving state it has no operation yet."""
    if template is None:
        template = (cluster.templates.first() if cluster else None) or make_template(cluster)
    made = state not in (State.PENDING, State.PROVISIONING)
    machine = Machine(name=name or f"vm-{next(_number)}", owner=owner, template=template, cluster=template.cluster, state=state, **fields)
    if made:
        machine.ref = machine.ref or str(machine.key)
        machine.made_at = machine.made_at or timezone.now()
        machine.power = fields.get("power", "on" if state in (State.RUNNING, State.STOPPING, State.RESTARTING) else "off")
        machine.seen_at = machine.seen_at or timezone.now()
    machine.username = machine.username or "student"
    machine.save()
    return machine


MOVING_BY_KIND = {
    Kind.PROVISION: State.PENDING,
    Kind.START: State.STARTING,
    Kind.STOP: State.STOPPING,
    Kind.FORCE_OFF: State.STOPPING,
    Kind.RESTART: State.RESTARTING,
    Kind.REVERT: State.REVERTING,
    Kind.SNAPSHOT: State.UPDATING,
    Kind.DELETE_SNAPSHOT: State.UPDATING,
    Kind.RESIZE: State.UPDATING,
    Kind.DESTROY: State.DESTROYING,
}


def make_operation(machine: Machine | None = None, *, kind: str = Kind.START, state: str = "queued", **fields: Any) -> Operation:
    """An operation; a machine made for an active one is in the state that goes with it."""
    if machine is None:
        moving = MOVING_BY_KIND[Kind(kind)]
        machine = make_machine(state=moving if state in ("queued", "running", "waiting") else State.STOPPED)
        assert state not in ("queued", "running", "waiting") or machine.state in MOVING
    fields.setdefault("not_before", timezone.now())
    return Operation.objects.create(machine=machine, kind=kind, state=state, **fields)


def make_request(requester: User, *, template: Template | None = None, **fields: Any) -> MachineRequest:
    """One that waits for a decision, about a machine of a small size, for a month."""
    tier, _made = Tier.objects.get_or_create(name="Silver", defaults={"cores": 2, "memory_mib": 2048, "disk_gib": 16})
    values = {"template": template or make_template(), "tier": tier, "reason": "A web server.", "until": timezone.localdate() + timedelta(days=30)}
    return MachineRequest.objects.create(requester=requester, number=next(_number), **{**values, **fields})


def make_batch(title: str = "10 machines", **fields: Any) -> Batch:
    return Batch.objects.create(title=title, **fields)
