"""Whose a guest is: a line in its description, which clones, rollbacks and migrations keep."""

import re
from urllib.parse import quote, unquote

from machines.providers.types import MachineIdentity

NAME_CHARACTERS = 63  # of a DNS label
_LABEL = re.compile(r"labportal:([\w.%~-]{1,200}):([\w.%~-]{1,200})", re.ASCII)
LONGEST = 64 * 1024  # a description that is longer is not looked through


def describe(identity: MachineIdentity) -> str:
    """A line for people who see it in Proxmox VE's own pages, and the label."""
    name = " ".join("".join(character if character.isprintable() else " " for character in identity.name).split())
    return f"Made by labportal: {name}. The next line says whose it is; please leave it as it is.\n\n{line(identity)}"


def line(identity: MachineIdentity) -> str:
    return f"labportal:{quote(identity.portal, safe='')}:{quote(identity.key, safe='')}"


def parse(description: object) -> tuple[str, str] | None:
    """(portal, key) of the one label in a description that anybody may have written. Two different ones are none."""
    if not isinstance(description, str) or len(description) > LONGEST:
        return None
    found = {match.groups() for text in description.splitlines() if (match := _LABEL.fullmatch(text.strip()))}
    if len(found) != 1:
        return None
    portal, key = found.pop()
    return unquote(portal), unquote(key)


def is_labelled(description: str) -> bool:
    """Whether anybody's label is in it, be there one or many."""
    return any(_LABEL.fullmatch(text.strip()) for text in description.splitlines())


def guest_name(identity: MachineIdentity) -> str:
    """Valid as a DNS label, and unlike that of any other machine."""
    plain = re.sub(r"[^a-z0-9]+", "-", identity.name.lower()).strip("-") or "machine"
    tail = _tail(identity.key)
    return f"{plain[: NAME_CHARACTERS - 1 - len(tail)].rstrip('-')}-{tail}"


def machine_name(guest: str, key: str) -> str:
    """What `guest_name` was made of, as far as it can be told."""
    return guest.removesuffix(f"-{_tail(key)}")


def _tail(key: str) -> str:
    return re.sub(r"[^a-z0-9]", "", key.lower())[:8]
