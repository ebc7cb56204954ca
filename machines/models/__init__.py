from .cluster import BurnedRef, Cluster, Node, Template, TemplateKind, Tier
from .feed import Change
from .machine import Machine, Snapshot
from .operation import ACTIVE, Batch, Heartbeat, Operation, OperationEvent, OperationState, Priority

__all__ = [
    "ACTIVE",
    "Batch",
    "BurnedRef",
    "Change",
    "Cluster",
    "Heartbeat",
    "Machine",
    "Node",
    "Operation",
    "OperationEvent",
    "OperationState",
    "Priority",
    "Snapshot",
    "Template",
    "TemplateKind",
    "Tier",
]
