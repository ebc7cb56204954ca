from .cluster import Cluster, Node, Template, Tier
from .feed import Change
from .machine import Machine, Snapshot
from .operation import ACTIVE, Batch, Heartbeat, Operation, OperationEvent, OperationState, Priority

__all__ = [
    "ACTIVE",
    "Batch",
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
    "Tier",
]
