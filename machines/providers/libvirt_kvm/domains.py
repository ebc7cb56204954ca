"""Looking at and acting on single libvirt domains. For use inside a call of the connection."""

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import libvirt

from machines.providers.errors import Busy, InvalidSpec, NotRunning
from machines.providers.types import Power, SnapshotInfo

from . import domain
from .domain import NAMESPACE, Label
from .errors_map import is_absent
from .storage import BASELINE

AGENT_SECONDS = 3  # an agent that has not answered by then is not there
PAUSED_BY_STORAGE = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)
UNDEFINE_ALL = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
)
_OFF_STATES = {libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED}


def lookup(raw: Any, ref: str) -> Any | None:
    try:
        uuid.UUID(ref)
    except ValueError:
        return None
    try:
        return raw.lookupByUUIDString(ref)
    except libvirt.libvirtError as error:
        if is_absent(error):
            return None
        raise


def label_of(dom: Any) -> Label | None:
    """Whose it is; None where it carries no label of any portal."""
    try:
        return Label.parse(dom.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_CONFIG))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA or is_absent(error):
            return None
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:  # transient: it has no stored definition
            return None
        raise


# -- power ---------------------------------------------------------------------------------


def power_of(dom: Any) -> Power:
    return power(dom.state(0)[0])


def power(state: int) -> Power:
    if state == libvirt.VIR_DOMAIN_NOSTATE:
        return Power.UNKNOWN
    return Power.OFF if state in _OFF_STATES else Power.ON


def require_on(dom: Any) -> None:
    """Raises NotRunning."""
    if power_of(dom) is not Power.ON:
        raise NotRunning(f"domain {dom.UUIDString()} is off")


def require_off(dom: Any) -> None:
    """Raises Busy."""
    if power_of(dom) is not Power.OFF:
        raise Busy(f"domain {dom.UUIDString()} is on", message="The machine is on; this needs it off.")


def switch_on(dom: Any) -> None:
    with _fine_when(dom, Power.ON):
        if power_of(dom) is not Power.ON:
            dom.create()


def pull_the_plug(dom: Any) -> None:
    with _fine_when(dom, Power.OFF):
        if power_of(dom) is not Power.OFF:
            dom.destroyFlags(0)


@contextlib.contextmanager
def _fine_when(dom: Any, wanted: Power) -> Iterator[None]:
    """Somebody else, or the guest itself, was quicker: what counts is where it got to."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID or power_of(dom) is not wanted:
            raise


def freeze(dom: Any) -> bool:
    """Bring the guest's file systems to rest, where an agent is there to do so. Returns whether it did."""
    try:
        dom.agentSetResponseTimeout(AGENT_SECONDS, 0)
        dom.fsFreeze(None, 0)
    except libvirt.libvirtError:
        return False
    return True


def thaw(dom: Any) -> None:
    with contextlib.suppress(libvirt.libvirtError):  # off meanwhile: nothing is frozen any more
        dom.fsThaw(None, 0)


# -- snapshots -----------------------------------------------------------------------------


def require_snapshot_name(name: str) -> str:
    """Raises InvalidSpec."""
    if name == BASELINE or not name.isascii() or not name.replace("-", "").isalnum():
        raise InvalidSpec(f"{name!r} is no name for a snapshot", message="A snapshot's name has letters, digits and dashes.")
    return name


def find_snapshot(dom: Any, name: str) -> Any | None:
    try:
        return dom.snapshotLookupByName(name, 0)
    except libvirt.libvirtError as error:
        if is_absent(error):
            return None
        raise


def baseline(dom: Any) -> Any:
    """The snapshot of the machine as it was made. It is in the disk from then on (see storage);
    libvirt learns of it when it is first needed."""
    known = find_snapshot(dom, BASELINE)
    if known is not None:
        return known
    xml = domain.existing_snapshot_xml(BASELINE, dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
    return dom.snapshotCreateXML(xml, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE)


def go_back_to(dom: Any, snapshot: Any) -> None:
    """The disk as it was then, the machine off. It must be off."""
    # A snapshot with memory brings the machine back running. The disk is all we want: not one
    # more instruction is executed.
    with_memory = snapshot_info(snapshot).with_memory
    dom.revertToSnapshot(snapshot, libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED if with_memory else 0)
    pull_the_plug(dom)


def snapshot_info(snapshot: Any) -> SnapshotInfo:
    created, with_memory = domain.snapshot_facts(snapshot.getXMLDesc(0))
    return SnapshotInfo(snapshot.getName(), created, with_memory)
