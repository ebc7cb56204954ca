"""How a machine is said and shown: its state in a word, what can be done now, why something cannot.

Pure reads of a `Machine` that came with its cluster; nothing here asks the database.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.translation import gettext as _

from machines.lifecycle import Event, State, can
from machines.models import Cluster, Machine
from machines.providers.types import Power

from .load import BOOTING_SECONDS

# A cluster that was not seen for this long may have changed behind our back.
STALE_AFTER = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Shown:
    """`tone` names the colour (css/app.css), `icon` the symbol, empty for a moving one."""

    tone: str
    icon: str
    word: str


ICONS = {
    State.RUNNING: ("on", "circle-fill"),
    State.STOPPED: ("off", "circle"),
    State.FAILED: ("bad", "exclamation-triangle-fill"),
    State.MISSING: ("lost", "question-circle-fill"),
    State.DESTROYED: ("off", "x-lg"),
}

STALE_ICON = "question-lg"


def memory(mib: int) -> str:
    """1536 as “1.5 GiB”."""
    return f"{round(mib / 1024, 1):g} GiB" if mib >= 1024 else f"{mib} MiB"


def is_stale(cluster: Cluster, now: datetime | None = None) -> bool:
    """Nothing was heard of the cluster lately: what is shown of its machines may be old."""
    return not cluster.reachable or cluster.seen_at is None or (now or timezone.now()) - cluster.seen_at > STALE_AFTER


def is_silent(machine: Machine) -> bool:
    """The cluster answers and knows nothing of this machine's power: its node does not answer. Of one that moved a
    moment ago nothing may be told yet."""
    settled = machine.state in (State.RUNNING, State.STOPPED) and timezone.now() - machine.state_since > STALE_AFTER
    return settled and machine.power == Power.UNKNOWN and machine.seen_at is not None


def shown(machine: Machine) -> Shown:
    state = State(machine.state)
    if state in (State.RUNNING, State.STOPPED) and (is_stale(machine.cluster) or is_silent(machine)):
        return Shown("stale", STALE_ICON, _("Last seen on") if state is State.RUNNING else _("Last seen off"))
    if is_booting(machine):
        return Shown("on", "circle-fill", _("On, booting"))
    tone, icon = ICONS.get(state, ("moving", ""))
    return Shown(tone, icon, str(machine.get_state_display()))


def is_booting(machine: Machine) -> bool:
    """On, and the guest has not answered yet, nor had the time to."""
    return machine.state == State.RUNNING and machine.answering_since is None and timezone.now() - machine.since < timedelta(seconds=BOOTING_SECONDS)


def can_start(machine: Machine) -> bool:
    return machine.state == State.STOPPED


def can_connect(machine: Machine) -> bool:
    """On as far as is known: one may watch a machine start and shut down."""
    return machine.state == State.RUNNING or (machine.power == "on" and (machine.is_moving or machine.state == State.FAILED))


def can_stop(machine: Machine) -> bool:
    return can(machine.state, Event.STOP) and not (machine.state == State.FAILED and machine.power == "off")


def can_force_off(machine: Machine) -> bool:
    """Where something may be on; a graceful stop that is at work is hurried."""
    return can_stop(machine) or machine.state == State.STOPPING


def can_restart(machine: Machine) -> bool:
    return can(machine.state, Event.RESTART)


def can_revert(machine: Machine) -> bool:
    return machine.made_at is not None and can(machine.state, Event.REVERT)


def can_renew(machine: Machine) -> bool:
    """Revert it to how it was made, which the portal does not know of what was there before."""
    return can_revert(machine) and not machine.adopted


def can_change(machine: Machine) -> bool:
    """Delete snapshots."""
    return can(machine.state, Event.UPDATE)


def can_snapshot(machine: Machine) -> bool:
    return can_change(machine) and machine.keeps_snapshots


def can_resize(machine: Machine) -> bool:
    return machine.state == State.STOPPED and (machine.may_destroy or not machine.adopted)


def can_retry(machine: Machine) -> bool:
    return machine.state in (State.FAILED, State.MISSING)


def can_destroy(machine: Machine) -> bool:
    return can(machine.state, Event.DESTROY) and (machine.may_destroy or not machine.adopted)


def why_no_console(machine: Machine) -> str:
    """Why screen and terminal cannot be opened now, with what to do; empty when they can."""
    if can_connect(machine):
        return ""
    match State(machine.state):
        case State.STOPPED:
            return _("Start the machine first.")
        case State.PENDING | State.PROVISIONING:
            return _("Screen and terminal open when the machine is made and on.")
        case State.STARTING | State.RESTARTING:
            return _("Screen and terminal open in a moment, when the machine is on.")
        case State.REVERTING | State.STOPPING | State.UPDATING:
            return _("Screen and terminal are closed while this is being done.")
        case State.FAILED:
            return _("Screen and terminal open when the machine is on again.")
    return _("There is no machine to connect to.")
