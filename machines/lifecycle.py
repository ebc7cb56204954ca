"""The states of a machine and the only ways between them. Pure: no Django, no I/O.

A machine in a *moving* state has exactly one active operation; in a *stable* state it has none.
`services.transitions` is the only writer; it asks `next_state` and nothing else.
"""

from enum import StrEnum


class State(StrEnum):
    # Stable: nothing changes them but a request or an observation.
    STOPPED = "stopped"
    RUNNING = "running"
    FAILED = "failed"  # the last operation ended badly; `problem` says why
    MISSING = "missing"  # the cluster answered, twice, that it has no such machine
    DESTROYED = "destroyed"  # gone for good; the row stays for the record
    # Moving: an operation is at work.
    PENDING = "pending"  # asked for, nothing exists on a cluster yet
    PROVISIONING = "provisioning"
    STARTING = "starting"
    STOPPING = "stopping"
    RESTARTING = "restarting"
    REVERTING = "reverting"
    UPDATING = "updating"  # snapshots and resizing
    DESTROYING = "destroying"


STABLE = frozenset({State.STOPPED, State.RUNNING, State.FAILED, State.MISSING, State.DESTROYED})
MOVING = frozenset(State) - STABLE


class Event(StrEnum):
    # Requests. Each one comes with a new operation.
    PROVISION = "provision"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    REVERT = "revert"
    UPDATE = "update"
    DESTROY = "destroy"
    # How an operation goes on and ends.
    BEGIN = "begin"
    SETTLED_ON = "settled_on"
    SETTLED_OFF = "settled_off"
    FAIL = "fail"
    VANISH = "vanish"  # the operation found that the machine is not there any more
    GONE = "gone"
    # What the watcher saw while nothing was at work.
    SEEN_ON = "seen_on"
    SEEN_OFF = "seen_off"
    NOT_FOUND = "not_found"


class Kind(StrEnum):
    """Kinds of operation."""

    PROVISION = "provision"
    START = "start"
    STOP = "stop"  # power button first, force after the deadline
    FORCE_OFF = "force_off"
    RESTART = "restart"
    REVERT = "revert"  # back to how it was made, or to one of its own snapshots
    SNAPSHOT = "snapshot"
    DELETE_SNAPSHOT = "delete_snapshot"
    RESIZE = "resize"
    DESTROY = "destroy"
    ADOPT = "adopt"  # write our label to a machine that was there before
    RELEASE = "release"  # take it off again; the machine itself is not touched


REQUEST_EVENT: dict[Kind, Event] = {
    Kind.PROVISION: Event.PROVISION,
    Kind.START: Event.START,
    Kind.STOP: Event.STOP,
    Kind.FORCE_OFF: Event.STOP,
    Kind.RESTART: Event.RESTART,
    Kind.REVERT: Event.REVERT,
    Kind.SNAPSHOT: Event.UPDATE,
    Kind.DELETE_SNAPSHOT: Event.UPDATE,
    Kind.RESIZE: Event.UPDATE,
    Kind.DESTROY: Event.DESTROY,
    Kind.ADOPT: Event.PROVISION,
    Kind.RELEASE: Event.DESTROY,
}

_S, _E = State, Event
_SETTLES = (_S.STARTING, _S.STOPPING, _S.RESTARTING, _S.REVERTING, _S.UPDATING, _S.PROVISIONING)

TRANSITIONS: dict[tuple[State, Event], State] = {
    (_S.PENDING, _E.BEGIN): _S.PROVISIONING,
    (_S.PENDING, _E.FAIL): _S.FAILED,
    (_S.DESTROYING, _E.FAIL): _S.FAILED,
    (_S.DESTROYING, _E.GONE): _S.DESTROYED,
    (_S.DESTROYING, _E.SETTLED_ON): _S.RUNNING,  # cancelled before anything was removed
    (_S.DESTROYING, _E.SETTLED_OFF): _S.STOPPED,
    **{(state, _E.SETTLED_ON): _S.RUNNING for state in _SETTLES},
    **{(state, _E.SETTLED_OFF): _S.STOPPED for state in _SETTLES},
    **{(state, _E.FAIL): _S.FAILED for state in _SETTLES},
    **{(state, _E.VANISH): _S.MISSING for state in _SETTLES},
    # Requests
    (_S.STOPPED, _E.START): _S.STARTING,
    (_S.FAILED, _E.START): _S.STARTING,
    (_S.RUNNING, _E.STOP): _S.STOPPING,
    (_S.FAILED, _E.STOP): _S.STOPPING,
    (_S.RUNNING, _E.RESTART): _S.RESTARTING,
    (_S.STOPPED, _E.REVERT): _S.REVERTING,
    (_S.RUNNING, _E.REVERT): _S.REVERTING,
    (_S.FAILED, _E.REVERT): _S.REVERTING,
    (_S.STOPPED, _E.UPDATE): _S.UPDATING,
    (_S.RUNNING, _E.UPDATE): _S.UPDATING,
    (_S.FAILED, _E.PROVISION): _S.PENDING,  # Try again; makes what is missing, keeps what is there
    (_S.MISSING, _E.PROVISION): _S.PENDING,
    (_S.STOPPED, _E.DESTROY): _S.DESTROYING,
    (_S.RUNNING, _E.DESTROY): _S.DESTROYING,
    (_S.FAILED, _E.DESTROY): _S.DESTROYING,
    (_S.MISSING, _E.DESTROY): _S.DESTROYING,
    # Observations
    (_S.STOPPED, _E.SEEN_ON): _S.RUNNING,
    (_S.RUNNING, _E.SEEN_OFF): _S.STOPPED,
    (_S.FAILED, _E.SEEN_ON): _S.RUNNING,
    (_S.MISSING, _E.SEEN_ON): _S.RUNNING,
    (_S.MISSING, _E.SEEN_OFF): _S.STOPPED,
    (_S.STOPPED, _E.NOT_FOUND): _S.MISSING,
    (_S.RUNNING, _E.NOT_FOUND): _S.MISSING,
}


class NotAllowed(Exception):
    """The table has no way from this state by this event."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{event} is not allowed while {state}")
        self.state, self.event = state, event


def next_state(state: State | str, event: Event) -> State:
    """Where `event` leads from `state`. Raises NotAllowed."""
    try:
        return TRANSITIONS[State(state), event]
    except KeyError:
        raise NotAllowed(State(state), event) from None


def can(state: State | str, event: Event) -> bool:
    return (State(state), event) in TRANSITIONS
