"""The NoCloud seed: what a guest is told at its first boot, as a small CD image.

An ISO 9660 image of two files is a handful of sectors, written here: no tool is needed, on
whatever host the portal runs.
"""

import json
import re
import struct
import time
from collections.abc import Mapping

from machines.providers.errors import InvalidSpec
from machines.providers.types import Seed

VOLUME_ID = "cidata"
# What X, and with it cloud-init, calls the layouts that are no layout of their own there.
KEYBOARDS = {"ch-de": ("ch", ""), "ch-fr": ("ch", "fr")}
_SECTOR = 2048
_PLAIN_PATHS, _JOLIET_PATHS = (19, 20), (21, 22)  # path tables, little- and big-endian
_PLAIN_ROOT, _JOLIET_ROOT, _CONTENT = 23, 24, 25


def iso(seed: Seed, instance_id: str) -> bytes:
    """The image. A guest applies a seed once per `instance_id`. Raises InvalidSpec."""
    return image({"meta-data": meta_data(seed, instance_id).encode(), "user-data": user_data(seed).encode()})


def meta_data(seed: Seed, instance_id: str) -> str:
    return f"instance-id: {instance_id}\nlocal-hostname: {seed.hostname}\n"


def user_data(seed: Seed) -> str:
    """cloud-config. Every value that people choose is in JSON's quotes, which YAML reads as they are meant."""
    _require_valid(seed)
    layout, variant = KEYBOARDS.get(seed.keyboard, (seed.keyboard, ""))
    lines = [
        "#cloud-config",
        f"hostname: {_quoted(seed.hostname)}",
        f"locale: {_quoted(seed.locale)}",
        "keyboard:",
        f"  layout: {_quoted(layout)}",
        *([f"  variant: {_quoted(variant)}"] if variant else []),
        "ssh_pwauth: true",
        "users:",
        f"  - name: {_quoted(seed.username)}",
        f"    gecos: {_quoted(seed.username)}",
        '    groups: "sudo"',
        '    sudo: "ALL=(ALL) NOPASSWD:ALL"',
        '    shell: "/bin/bash"',
        "    lock_passwd: false",
        f"    plain_text_passwd: {_quoted(seed.password)}",
    ]
    if seed.ssh_keys:
        lines += ["    ssh_authorized_keys:", *(f"      - {_quoted(key)}" for key in seed.ssh_keys)]
    # On the disk before anybody can pull the plug: half-written host keys keep SSH down for ever.
    lines += ["runcmd:", '  - ["sync"]', ""]
    return "\n".join(lines)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _require_valid(seed: Seed) -> None:
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", seed.username):
        raise InvalidSpec(f"user name {seed.username!r}", message="This is no user name a guest accepts.")
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", seed.hostname):
        raise InvalidSpec(f"host name {seed.hostname!r}", message="This is no host name a guest accepts.")
    for value in (seed.password, seed.locale, seed.keyboard, *seed.ssh_keys):
        if not value.isprintable():
            raise InvalidSpec(f"control characters in {value[:8]!r}…", message="What the guest is told at its first boot has characters that cannot be typed.")


# -- ISO 9660 ------------------------------------------------------------------------------


def image(files: Mapping[str, bytes]) -> bytes:
    """An ISO 9660 image with Joliet names and these files in its root folder."""
    plain, joliet, content = [], [], bytearray()
    for name, data in sorted(files.items()):
        sector = _CONTENT + len(content) // _SECTOR
        plain.append(_record(f"{name.upper()}.;1".encode("ascii"), sector, len(data)))
        joliet.append(_record(f"{name};1".encode("utf-16-be"), sector, len(data)))
        content += _padded(data)
    sectors = _CONTENT + len(content) // _SECTOR
    terminator = _padded(b"\xffCD001\x01")
    head = bytes(16 * _SECTOR) + _descriptor(1, _PLAIN_PATHS, _PLAIN_ROOT, sectors) + _descriptor(2, _JOLIET_PATHS, _JOLIET_ROOT, sectors) + terminator
    tables = b"".join(_path_table(order, root) for root in (_PLAIN_ROOT, _JOLIET_ROOT) for order in ("<", ">"))
    return head + tables + _folder(_PLAIN_ROOT, plain) + _folder(_JOLIET_ROOT, joliet) + bytes(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _SECTOR)


def _both(number: int, size: str = "I") -> bytes:
    """A number the way the standard has it: little-endian, then big-endian."""
    return struct.pack("<" + size, number) + struct.pack(">" + size, number)


def _record(name: bytes, sector: int, length: int, *, folder: bool = False) -> bytes:
    now = time.gmtime()
    date = bytes((now.tm_year - 1900, now.tm_mon, now.tm_mday, now.tm_hour, now.tm_min, now.tm_sec, 0))
    record = bytes(1) + _both(sector) + _both(length) + date + bytes((2 if folder else 0, 0, 0)) + _both(1, "H") + bytes((len(name),)) + name
    record += bytes((len(record) + 1) % 2)
    return bytes((len(record) + 1,)) + record


def _folder(sector: int, records: list[bytes]) -> bytes:
    return _padded(b"".join([_record(b"\0", sector, _SECTOR, folder=True), _record(b"\1", sector, _SECTOR, folder=True), *records]))


def _path_table(order: str, root: int) -> bytes:
    return _padded(struct.pack(f"{order}BBIH", 1, 0, root, 1) + bytes(2))


def _descriptor(kind: int, paths: tuple[int, int], root: int, sectors: int) -> bytes:
    """A volume descriptor: kind 1 is the primary one, 2 with the escape sequence %/E is Joliet."""

    def text(value: str, length: int) -> bytes:
        return value.encode("utf-16-be").ljust(length, b"\0") if kind == 2 else value.encode("ascii").ljust(length)

    def spaces(length: int) -> bytes:
        return (" ".encode("utf-16-be") * (length // 2)).ljust(length, b"\0") if kind == 2 else b" " * length

    no_date = b"0" * 16 + b"\0"
    return _padded(
        bytes((kind,)) + b"CD001\x01\0" + spaces(32) + text(VOLUME_ID, 32) + bytes(8) + _both(sectors)
        + (b"%/E" if kind == 2 else b"").ljust(32, b"\0")
        + _both(1, "H") + _both(1, "H") + _both(_SECTOR, "H") + _both(10)
        + struct.pack("<II", paths[0], 0) + struct.pack(">II", paths[1], 0)
        + _record(b"\0", root, _SECTOR, folder=True)
        + spaces(128) * 4 + spaces(37) * 3 + no_date * 4 + b"\x01"
    )  # fmt: skip
