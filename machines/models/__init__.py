from .cluster import BurnedRef, Cluster, Node, Template, TemplateKind, Tier
from .feed import Change
from .machine import Machine, Snapshot
from .operation import ACTIVE, Batch, Heartbeat, Operation, OperationEvent, OperationState, Priority
from .request import OPEN, TO_DECIDE, MachineRequest, RequestMail, RequestState

__all__ = [
    "ACTIVE",
    "OPEN",
    "TO_DECIDE",
    "Batch",
    "BurnedRef",
    "Change",
    "Cluster",
    "Heartbeat",
    "Machine",
    "MachineRequest",
    "Node",
    "Operation",
    "OperationEvent",
    "OperationState",
    "Priority",
    "RequestMail",
    "RequestState",
    "Snapshot",
    "Template",
    "TemplateKind",
    "Tier",
]
