"""What can go wrong at a hypervisor. SDK exceptions never leave a provider; these do.

Each carries a sentence for the person (`message`: what happened, in plain words), a `detail`
for operators, and a short stable `code`. *Not found* is no error but a return value.

    Transient       nothing happened, try again later
    OutcomeUnknown  it may have happened: observe before anything else
    Permanent       trying again changes nothing until somebody acts
"""

from typing import ClassVar


class ProviderError(Exception):
    code: ClassVar[str] = "provider"
    default: ClassVar[str] = "The cluster could not do this."

    def __init__(self, detail: str = "", *, message: str = "") -> None:
        self.message = message or self.default
        self.detail = detail
        super().__init__(f"{self.code}: {detail or self.message}")

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not pickle by themselves.
        return (_rebuild, (type(self), self.detail, self.message))


def _rebuild(kind: type[ProviderError], detail: str, message: str) -> ProviderError:
    return kind(detail, message=message)


class Transient(ProviderError):
    code = "transient"


class Unreachable(Transient):
    code = "unreachable"
    default = "The cluster does not answer at the moment."


class Busy(Transient):
    code = "busy"
    default = "The cluster is busy with something else on this machine."


class NoCapacity(Transient):
    code = "no_capacity"
    default = "The cluster has no room for this at the moment."


class Overloaded(Transient):
    """A lock that many wanted was not free in time. The portal asks for less at once for a while."""

    code = "overloaded"
    default = "The cluster has too much to do at once."


class OutcomeUnknown(ProviderError):
    code = "outcome_unknown"
    default = "The cluster did not say whether it did this."


class Permanent(ProviderError):
    code = "permanent"


class InvalidSpec(Permanent):
    code = "invalid_spec"
    default = "The cluster does not accept a machine of this form."


class TemplateMissing(Permanent):
    code = "template_missing"
    default = "The template of this machine is gone from the cluster."


class StorageFull(Permanent):
    """Permanent on purpose: a full disk does not empty itself, and trying on fills logs."""

    code = "storage_full"
    default = "The cluster's storage is full."


class Incomplete(Permanent):
    code = "incomplete"
    default = "The machine's disk is gone from the cluster, and with it what was on it."


class Locked(Permanent):
    """Left so by work that is gone. Trying on does not unlock it."""

    code = "locked"
    default = "The machine was left locked on the cluster. An administrator has to unlock it."


class AuthFailed(Permanent):
    code = "auth_failed"
    default = "The cluster refuses the portal's credentials."


class Unseen(AuthFailed):
    """The ref is in use, and this account may not see by what: the machine, or somebody else's."""

    code = "unseen"
    default = "What is in this machine's place may not be seen by the portal's account on the cluster. It was not touched."


class ForeignMachine(Permanent):
    code = "foreign_machine"
    default = "Something that is not ours is in this machine's place. It was not touched."


class TaskFailed(Permanent):
    code = "task_failed"
    default = "The cluster tried and failed."


class Unsupported(Permanent):
    code = "unsupported"
    default = "This cluster cannot do that."


class NotRunning(Permanent):
    code = "not_running"
    default = "The machine is off."
