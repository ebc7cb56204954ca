from .cluster import Audience, BurnedRef, Cluster, ClusterKind, ClusterReport, Node, Template, TemplateKind, Tier
from .feed import Change
from .machine import Machine, Snapshot
from .operation import ACTIVE, Batch, Heartbeat, Operation, OperationEvent, OperationState, Priority
from .realm import RealmIdentity
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
    "ClusterKind",
    "ClusterReport",
    "Heartbeat",
    "Machine",
    "MachineRequest",
    "Node",
    "Operation",
    "OperationEvent",
    "OperationState",
    "Priority",
    "RealmIdentity",
    "RequestMail",
    "RequestState",
    "Snapshot",
    "Template",
    "TemplateKind",
    "Tier",
]
