from .cluster import Cluster, Node, Template, Tier
from .feed import Change
from .machine import Machine, Snapshot
from .operation import Batch, Heartbeat, Operation, OperationEvent

__all__ = [
    "Batch",
    "Change",
    "Cluster",
    "Heartbeat",
    "Machine",
    "Node",
    "Operation",
    "OperationEvent",
    "Snapshot",
    "Template",
    "Tier",
]
