"""Labels for guests that were there before the portal. Nothing but the last line of the description is changed."""

from machines.providers.errors import Busy, ForeignMachine, InvalidSpec, TaskFailed
from machines.providers.types import MachineIdentity

from . import label
from .client import Client
from .guests import Guest, Guests


def adopt(client: Client, guests: Guests, identity: MachineIdentity, ref: str, name: str) -> None:
    """Write our label to what is called `name`. Raises ForeignMachine, InvalidSpec, Busy, TaskFailed, and as `Client.put`."""
    guest = guests.look(ref)
    if guest is None:
        raise TaskFailed(f"{ref} is not there", message="The machine is not on the cluster any more.")
    if guest.hidden:
        raise InvalidSpec(ref, message="The portal's account may not see this machine. Grant it its rights on it, or on its pool.")
    if guest.belongs_to(identity):
        return
    if guest.config.get("template"):
        raise InvalidSpec(ref, message="This is a template and no machine.")
    if label.is_labelled(_description(guest)):
        raise ForeignMachine(f"{ref} has a label already", message="This machine carries the label of a portal already. It was not touched.")
    called = str(guest.config.get("hostname" if guest.is_container else "name") or "")
    if called and called != name:
        raise ForeignMachine(f"{ref} is called {called}, not {name}", message="Another machine has this number by now. It was not touched.")
    before = _description(guest).rstrip()
    _describe(client, guests, guest, f"{before}\n\n{label.line(identity)}" if before else label.line(identity))


def release(client: Client, guests: Guests, identity: MachineIdentity, ref: str) -> None:
    """Take our label off and leave the rest. Raises ForeignMachine, Busy, TaskFailed, and as `Client.put`."""
    guest = guests.ours(identity, ref, current=True)
    ours = label.line(identity)
    _describe(client, guests, guest, "\n".join(line for line in _description(guest).splitlines() if line.strip() != ours).strip())


def _description(guest: Guest) -> str:
    return str(guest.config.get("description") or "")


def _describe(client: Client, guests: Guests, guest: Guest, text: str) -> None:
    """Refused by Proxmox VE where somebody changed the configuration since it was read."""
    if guest.lock:
        raise Busy(f"{guest.vmid} is locked ({guest.lock})")
    values = {"description": text} if text else {"delete": "description"}
    if digest := guest.config.get("digest"):
        values["digest"] = str(digest)
    try:
        client.put(f"{guest.path}/config", **values)
    finally:
        guests.forget(guest.vmid)
