"""What Proxmox VE's answers mean. Pure: a status, its texts and whether it was a write go in, one of our errors comes out.

The texts are stable enough to be told apart, and never enough to act upon alone: who gets one of these
errors looks at the machine again before anything is changed.
"""

import re
from collections.abc import Iterable
from typing import Any

from machines.providers.errors import (
    AuthFailed,
    Busy,
    InvalidSpec,
    NotRunning,
    OutcomeUnknown,
    Overloaded,
    ProviderError,
    StorageFull,
    TaskFailed,
    Unreachable,
    Unsupported,
)

DETAIL_CHARACTERS = 300
PROXYING = range(595, 600)  # said by a node that could not hand the call on


class Forbidden(AuthFailed):
    """Signed in, and not allowed. `/vms/N` of a machine that is gone is forbidden too where rights come through its pool."""


class NotThere(TaskFailed):
    """The guest is not on that node: gone, or migrated."""

    code = "not_there"
    default = "The machine is not on this node of the cluster."


class AlreadyThere(TaskFailed):
    """The number is in use, perhaps by the very machine that was to be made."""

    code = "already_there"
    default = "The machine's number on the cluster is in use already."


class AlreadyRunning(TaskFailed):
    code = "already_running"
    default = "The machine runs already."


class NoSuchTask(TaskFailed):
    """Its node restarted or forgot it: look at the machine."""

    code = "no_such_task"
    default = "The cluster does not know this task any more."


class CannotLink(Unsupported):
    """The storage of the template makes full copies only. Nothing was done."""


class NoQuorum(Unreachable):
    """Reads are answered, writes are not done."""

    default = "The cluster has lost its quorum: too few of its nodes see each other. It changes nothing until they do."


# The first that fits. Those of the whole cluster before those of one machine.
TEXTS: tuple[tuple[str, type[ProviderError], str], ...] = (
    (r"no quorum", NoQuorum, ""),
    (r"got no worker upid|start worker failed|unable to fork", Overloaded, "The node of the cluster could not begin another task."),
    (r"qmp command 'guest-[^']*' failed|guest agent is not running", TaskFailed, "The guest agent of the machine does not answer."),
    (r"lock file '[^']*/(lock-\d+\.conf|pve-config-\d+\.lock)'", Busy, "Something else is at work on this machine or its template on the cluster."),
    (r"got (lock request )?timeout|-locked command timed out|unable to acquire lock", Overloaded, ""),
    (r"unable to find free port", Overloaded, "The node has no free port for another console."),
    (r"no space left|not enough (free )?space|insufficient free space|out of space|disk quota exceeded|storage is full|No free space", StorageFull, ""),
    (r"[Tt]hin pool .*(full|exhausted)|free space in .* (below|threshold)", StorageFull, ""),
    (r"config file already exists|(VM|CT) \d+ already exists|: File exists|already in use by .*(vmid|VM )", AlreadyThere, ""),
    (r"(Configuration|[Cc]onfig(uration)?) file .*does not exist|unable to find configuration file|no such (VM|CT)\b", NotThere, ""),
    (r"no such task|unable to parse worker upid", NoSuchTask, ""),
    (r"(VM|CT) (\d+ )?already running", AlreadyRunning, ""),
    (r"\b(VM|CT|container) '?(\d+'? )?(is )?not running", NotRunning, ""),
    (r"is locked \((backup|migrate|snapshot(-delete)?|clone|disk|create|rollback|suspend\w*|destroyed|mounted)\)", Busy, ""),
    (r"\bis locked\b", Busy, ""),
    (r"checksum mismatch \(file change by other user", Busy, "Somebody else changed the machine's configuration at the same time."),
    (r"storage '[^']*' (is not (online|available)|does not exist)|is not active on node", TaskFailed, "A storage of the cluster is not available."),
    (r"protection mode enabled", TaskFailed, "The machine is protected on the cluster: an administrator has to lift that."),
    (r"hostname lookup '[^']*' failed|no such cluster node", TaskFailed, "The cluster has no such node."),
    (r"[Ll]inked clone feature .* not (available|supported)|storage .* linked clone", CannotLink, "The storage of this template cannot make linked clones."),
    (r"[Ss]napshot feature is not available", Unsupported, "The storage of this machine cannot keep snapshots."),
    (r"No QEMU guest agent configured", Unsupported, "The machine has no guest agent."),
    (r"only root (can|may)|user != root@pam", Forbidden, "The cluster lets only root@pam do this."),
)
_TEXTS = tuple((re.compile(pattern, re.IGNORECASE), kind, message) for pattern, kind, message in TEXTS)

_LOCK = re.compile(r"is locked \(([\w-]+)\)")
_LACKING = re.compile(r"Permission check failed \((/[^,()]*), ?([\w.|,; ]+)\)")
_UNEXPECTED = "unexpected status"
_SECRETS = (
    re.compile(r"(PVE(?:VNC|ADM)?[:!])[^\s\"'&]+"),
    re.compile(r"(PVE\w*Token=[^\s=]+=)[^\s\"'&]+"),
    re.compile(r"((?:password|passwd|cipassword|ticket|secret|CSRFPreventionToken)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,}]+", re.IGNORECASE),
)


def clean(text: str, secrets: Iterable[str] = ()) -> str:
    """One bounded line without control characters, tickets, tokens and `secrets`: fit for a log and a page of staff."""
    for secret in secrets:
        if len(secret) >= 4:  # shorter ones would tear holes into ordinary words
            text = text.replace(secret, "…")
    for pattern in _SECRETS:
        text = pattern.sub(r"\1…", text)
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= DETAIL_CHARACTERS else line[: DETAIL_CHARACTERS - 1] + "…"


def text_error(text: str, detail: str = "") -> ProviderError | None:
    """What a text of Proxmox VE means by itself; None where it is not one of those known."""
    for pattern, kind, message in _TEXTS:
        if pattern.search(text):
            if kind is Busy and not message and (lock := _LOCK.search(text)):
                message = f"The machine is locked on the cluster ({lock[1]})."
            return kind(detail or clean(text), message=message)
    return None


def refusal(status: int, reason: str, body: Any, *, wrote: bool, path: str = "", secrets: Iterable[str] = ()) -> ProviderError:
    """The error of an answer of 300 and more. `body`: its parsed JSON object, None where it has none.

    `path` is that of the call, below /api2/json. What is not known of a read is Unreachable (nothing was to
    happen); of a write it is OutcomeUnknown unless Proxmox VE itself refused it.
    """
    answered = isinstance(body, dict)
    text = _said(reason, body)
    detail = clean(f"{status} {text}", secrets)
    if status in PROXYING:
        where = _node(path)
        message = f"The node {where} of the cluster does not answer." if where else ""
        return OutcomeUnknown(detail, message=message and f"{message} It may have done this.") if wrote else Unreachable(detail, message=message)
    if status == 401:
        return AuthFailed(detail, message=_unauthorised(text))
    if status == 403:
        return Forbidden(detail, message=_lacking(text))
    if status == 400:
        return text_error(text, detail) or InvalidSpec(detail, message=_fields(body, secrets))
    if status == 501:
        return Unsupported(detail, message="This version of Proxmox VE cannot do that.")
    if status == 429:
        return Overloaded(detail)
    if status == 500 and (known := text_error(text, detail)):
        return known
    if answered and status >= 400:
        return TaskFailed(detail)
    if status < 500:
        return Unreachable(detail, message="What answers there is not Proxmox VE.")
    return OutcomeUnknown(detail) if wrote else Unreachable(detail)


def task_error(exitstatus: str, secrets: Iterable[str] = ()) -> ProviderError | None:
    """The error a finished task ended with; None where it did its work, with warnings or without."""
    if exitstatus == "OK" or warnings(exitstatus):
        return None
    detail = clean(exitstatus, secrets)
    if exitstatus.strip() in (_UNEXPECTED, "", "unknown"):
        return OutcomeUnknown(detail, message="The task on the cluster was cut short.")
    if exitstatus.strip() in ("interrupted by signal", "received interrupt"):
        return OutcomeUnknown(detail, message="The task on the cluster was stopped.")
    if "Permission check failed" in exitstatus:
        return Forbidden(detail, message=_lacking(exitstatus))
    return text_error(exitstatus, detail) or TaskFailed(detail)


def warnings(exitstatus: str) -> int:
    """How many a task that did its work had. Of one that destroys, it may be a disk that was left behind."""
    found = re.fullmatch(r"WARNINGS: (\d+)\s*", exitstatus)
    return int(found[1]) if found else 0


def _said(reason: str, body: Any) -> str:
    """The message and the texts of the fields, else the first line of the answer."""
    if not isinstance(body, dict):
        return reason
    said = str(body.get("message") or reason or "").strip()
    fields = body.get("errors")
    if isinstance(fields, dict) and fields:
        said += " " + "; ".join(f"{name}: {str(text).strip()}" for name, text in fields.items())
    return said.strip()


def _fields(body: Any, secrets: Iterable[str]) -> str:
    fields = body.get("errors") if isinstance(body, dict) else None
    if not isinstance(fields, dict) or not fields:
        return ""
    told = "; ".join(f"{name} – {str(text).strip()}" for name, text in fields.items())
    return clean(f"The cluster does not accept a machine of this form: {told}", secrets)


def _lacking(text: str) -> str:
    found = _LACKING.search(text)
    if found:
        privileges = " or ".join(part for part in re.split(r"[|,; ]+", found[2]) if part)
        return f"The portal's account on the cluster lacks the privilege {privileges} on {clean(found[1])}."
    if pool := re.search(r"pool '([^']*)' does not exist", text):
        return f"The cluster has no pool {clean(pool[1])}."
    if "proper ticket" in text:
        return "The cluster does not let an API token do this: it takes an account with a password."
    return "The portal's account on the cluster is not allowed to do this."


def _unauthorised(text: str) -> str:
    if "PVEVNC" in text:
        return "The cluster does not accept the ticket of this console (any more)."
    return "The cluster does not accept the portal's token or password. It may have been revoked, changed, or have expired."


def _node(path: str) -> str:
    parts = path.strip("/").split("/")
    return clean(parts[1]) if len(parts) > 1 and parts[0] == "nodes" else ""
