"""How the API says machines, what is done to them, and requests for them."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from ninja import Schema

from accounts.rest import Id, Text, Word

from .lifecycle import Kind, State
from .models import Machine, MachineRequest, Operation, OperationState, RequestState, Template, TemplateKind, Tier
from .selectors.pages import Place, Working
from .services.way_in import way_in


class Named(Schema):
    id: int
    name: str


class OperationOut(Schema):
    key: UUID
    machine: UUID
    kind: Kind
    state: OperationState
    percent: int
    message: str
    code: str
    asked_by: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, operation: Operation, machine: Machine) -> "OperationOut":
        return cls(**_operation(operation, machine))


def _operation(operation: Operation, machine: Machine) -> dict[str, Any]:
    return {
        "key": operation.key,
        "machine": machine.key,
        "kind": Kind(operation.kind),
        "state": OperationState(operation.state),
        "percent": round(100 * operation.progress),
        "message": operation.message,
        "code": operation.code,
        "asked_by": operation.requested_by.get_username() if operation.requested_by else None,
        "created_at": operation.created_at,
        "started_at": operation.started_at,
        "finished_at": operation.finished_at,
    }


class OperationFollowed(OperationOut):
    """`position` 1 is the next, 0: not queued; `reason` why it waits; `due` when it is probably done."""

    position: int = 0
    reason: str = ""
    due: datetime | None = None

    @classmethod
    def of_working(cls, working: Working) -> "OperationFollowed":
        operation, standing = working.operation, working.standing
        where: dict[str, Any] = {"position": standing.position, "reason": standing.reason, "due": standing.due} if standing else {}
        return cls(**_operation(operation, operation.machine), **where)


class MachineOut(Schema):
    """`state_since` is when it got into its state; `seen_at` when anything about it was last seen to change."""

    key: UUID
    name: str
    state: State
    state_since: datetime
    problem: str
    owner: str | None
    cluster: Named
    template: Named
    lab_class: str | None
    cores: int
    memory_mib: int
    disk_gib: int | None
    seen_at: datetime | None
    operation: OperationOut | None

    @classmethod
    def of(cls, machine: Machine, place: Place | None) -> "MachineOut":
        """Of one that came with its work (`selectors.listing`)."""
        return cls(**_machine(machine, place))


def _machine(machine: Machine, place: Place | None) -> dict[str, Any]:
    working: list[Operation] = getattr(machine, "working", [])
    return {
        "key": machine.key,
        "name": machine.name,
        "state": State(machine.state),
        "state_since": machine.state_since,
        "problem": machine.problem,
        "owner": machine.owner.get_username() if machine.owner else None,
        "cluster": Named(id=machine.cluster_id, name=machine.cluster.name),
        "template": Named(id=machine.template_id, name=machine.template.name),
        "lab_class": place.name if place else None,
        "cores": machine.cores,
        "memory_mib": machine.memory_mib,
        "disk_gib": machine.disk_gib,
        "seen_at": machine.seen_at,
        "operation": OperationOut.of(working[0], machine) if working else None,
    }


class MachineWhole(MachineOut):
    """With how to get in, where that is known."""

    ssh_command: str
    snapshots: list[str]

    @classmethod
    def of_whole(cls, machine: Machine, place: Place | None, snapshots: list[str]) -> "MachineWhole":
        return cls(**_machine(machine, place), ssh_command=way_in(machine).ssh_command, snapshots=snapshots)


class Machines(Schema):
    items: list[MachineOut]
    next: int | None


class PowerVerb(StrEnum):
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    FORCE_OFF = "force-off"


class RevertIn(Schema):
    """Empty: to how the machine was made."""

    snapshot: Word = ""


class TierOut(Schema):
    id: int
    name: str
    cores: int
    memory_mib: int
    disk_gib: int

    @classmethod
    def of(cls, tier: Tier) -> "TierOut":
        return cls(id=tier.pk, name=tier.name, cores=tier.cores, memory_mib=tier.memory_mib, disk_gib=tier.disk_gib)


class TemplateOut(Schema):
    id: int
    name: str
    kind: TemplateKind
    cluster: Named
    description: str
    tiers: list[TierOut]

    @classmethod
    def of(cls, template: Template, tiers: list[Tier]) -> "TemplateOut":
        return cls(
            id=template.pk,
            name=template.name,
            kind=TemplateKind(template.kind),
            cluster=Named(id=template.cluster_id, name=template.cluster.name),
            description=template.description,
            tiers=[TierOut.of(tier) for tier in tiers],
        )


class Templates(Schema):
    items: list[TemplateOut]


class RequestIn(Schema):
    """`until`: the last day, by default three months from now."""

    template: Id
    tier: Id
    reason: Text
    until: date | None = None


class RequestOut(Schema):
    key: UUID
    state: RequestState
    person: str
    template: Named
    tier: Named
    reason: str
    until: date
    created_at: datetime
    decided_at: datetime | None
    answer: str
    problem: str
    machine: UUID | None

    @classmethod
    def of(cls, request: MachineRequest) -> "RequestOut":
        return cls(
            key=request.key,
            state=RequestState(request.state),
            person=request.requester.get_username(),
            template=Named(id=request.template_id, name=request.template.name),
            tier=Named(id=request.tier_id, name=request.tier.name),
            reason=request.reason,
            until=request.until,
            created_at=request.created_at,
            decided_at=request.decided_at,
            answer=request.answer,
            problem=request.problem,
            machine=request.machine.key if request.machine and request.machine.state != State.DESTROYED else None,
        )


class Requests(Schema):
    items: list[RequestOut]
    next: int | None
