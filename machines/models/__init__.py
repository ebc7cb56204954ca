from .cluster import Audience, BurnedRef, Cluster, ClusterReport, Node, Template, TemplateKind, Tier
from .feed import Change
from .machine import Machine, Snapshot
from .operation import ACTIVE, Batch, Heartbeat, Operation, OperationEvent, OperationState, Priority
from .request import OPEN, TO_DECIDE, MachineRequest, RequestMail, RequestState

__all__ = [
    "ACTIVE",
    "OPEN",
    "TO_DECIDE",
    "Audience",
    "Batch",
    "BurnedRef",
    "Change",
    "Cluster",
    "ClusterReport",
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
