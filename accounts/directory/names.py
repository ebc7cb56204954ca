"""Names, and how they are compared: distinguished ones (RFC 4514) as a directory compares them, and those that people type."""

import re
import unicodedata

_TYPE = re.compile(r"\s*([a-zA-Z][a-zA-Z0-9-]*|\d+(?:\.\d+)*)\s*=\s*")
_VALUE = re.compile(r"(?:\\[0-9a-fA-F]{2}|\\[ \"#+,;<=>\\]|[^\\,+;\"<>\0])*")
_ESCAPED = re.compile(rb"\\([0-9a-fA-F]{2})|\\(.)", re.DOTALL)

Pair = tuple[str, str]  # type of an attribute and its value


def normalised(dn: str) -> str:
    """One spelling for all names that mean the same: case, blanks, escapes and the order within an RDN make no
    difference. Empty where it is no DN."""
    return ",".join("+".join(f"{kind}={_escaped(value)}" for kind, value in sorted(rdn)) for rdn in _parts(dn))


def first_value(dn: str) -> str:
    """What stands first in it: `networks` of `cn=networks,ou=groups,dc=uni`. Empty where it is no DN."""
    parts = _parts(dn)
    return parts[0][0][1] if parts else ""


def depth(dn: str) -> int:
    """How many RDNs it has; none where it is no DN."""
    return len(_parts(dn))


def in_one_case(name: str) -> str:
    """The same for names that differ in case alone."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def at_its_broadest(name: str) -> str:
    """The same for names that any directory could take for one: beside case, accents, wide letters, blanks and signs
    make no difference. Many that are different have the same."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", in_one_case(name)).casefold())
    return "".join(letter for letter in folded if letter.isalnum())


def _parts(dn: str) -> list[list[Pair]]:
    """The RDNs, each as it was written, its values in the one spelling; none where it is no DN."""
    parts: list[list[Pair]] = [[]]
    at = 0
    while match := _TYPE.match(dn, at):
        end = _VALUE.match(dn, match.end())
        assert end is not None  # it matches nothing, too
        value = _plain(_unescaped(end[0]))
        if not value or end[0].startswith("#"):  # the latter would be BER in hex
            return []
        parts[-1].append((match[1].lower(), value))
        at = end.end() + 1
        if end.end() == len(dn):
            return parts
        if dn[end.end()] == ",":
            parts.append([])
        elif dn[end.end()] != "+":
            return []
    return []


def _unescaped(text: str) -> str:
    """Empty where the bytes that are written in hex are no UTF-8."""
    try:
        return _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()) if match[1] else match[2], text.encode(errors="replace")).decode()
    except UnicodeDecodeError:
        return ""


def _plain(text: str) -> str:
    """ß and ss stay different: groups that look alike must not give the same."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())).strip()


def _escaped(value: str) -> str:
    return re.sub(r"^#|[\\,+\"<>;=]", r"\\\g<0>", value).replace("\0", "\\00")
