"""Disk images from outside: looked at with suspicion before they become templates.

An image may name other files of the host as its backing or data file; QEMU would open them and
the guest would read them. A box is an archive, with all that can be wrong in one.
"""

import json
import shutil
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machines.providers.errors import InvalidSpec, StorageFull

_QCOW2 = b"QFI\xfb"
_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_DATA_FILE, _CORRUPT = 1 << 2, 1 << 1  # bits of a qcow2's incompatible features
_MOST_BYTES = 16 * 1024**4  # of a disk as the guest sees it
_MOST_MEMBERS = 100  # of a box
_MOST_METADATA = 1024**2  # bytes


@dataclass(frozen=True, slots=True)
class Image:
    """A qcow2 file that stands on its own. `size`: bytes, as the guest sees it."""

    path: Path
    size: int


def prepare(path: Path, folder: Path) -> Path:
    """The qcow2 file in `path`, which is one or a box; boxes are unpacked into `folder`.
    Raises InvalidSpec, StorageFull."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise InvalidSpec(str(error), message=f"{path.name} cannot be read.") from error
    if start.startswith(_QCOW2):
        return inspect(path).path
    if start.startswith(_ARCHIVES) or start[257:262] == b"ustar":
        return inspect(unpack_box(path, folder)).path
    raise InvalidSpec(str(path), message=f"{path.name} is neither a qcow2 image nor a Vagrant box.")


def inspect(path: Path) -> Image:
    """Read a qcow2's header. Raises InvalidSpec where it is none, is encrypted or broken, or refers to other files."""
    with path.open("rb") as file:
        header = file.read(104).ljust(104, b"\0")
    magic, version, backing, _length, _bits, size, encryption = struct.unpack_from(">4sIQIIQI", header)
    features = struct.unpack_from(">Q", header, 72)[0] if version >= 3 else 0
    if magic != _QCOW2 or version not in (2, 3):
        raise InvalidSpec(f"{path} is no qcow2 of version 2 or 3", message="This is no qcow2 image.")
    if backing or features & _DATA_FILE:
        raise InvalidSpec(f"{path} refers to another file", message="This image is not whole: it refers to another file.")
    if encryption:
        raise InvalidSpec(f"{path} is encrypted", message="This image is encrypted.")
    if features & _CORRUPT or not 0 < size <= _MOST_BYTES:
        raise InvalidSpec(f"{path} is corrupt", message="This image is damaged.")
    return Image(path, size)


def unpack_box(path: Path, folder: Path) -> Path:
    """The disk of a Vagrant box for libvirt (of either format), taken out into `folder`.
    Raises InvalidSpec, StorageFull."""
    try:
        metadata = _box_metadata(path)
        wanted = _box_disk(metadata)
        target = folder / "box.qcow2"
        with tarfile.open(path) as archive:
            for member in _members(archive):
                if _plain_name(member) == wanted:
                    _take_out(archive, member, target)
                    return target
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise InvalidSpec(f"{path}: {error}", message=f"{path.name} is no Vagrant box that can be read.") from error
    raise InvalidSpec(f"{path} has no {wanted}", message=f"The box has no disk named {wanted}.")


def _members(archive: tarfile.TarFile) -> Any:
    for number, member in enumerate(archive):
        if number >= _MOST_MEMBERS:
            raise InvalidSpec(f"more than {_MOST_MEMBERS} files", message="The box has more files in it than a box has.")
        yield member


def _plain_name(member: tarfile.TarInfo) -> str:
    return member.name.removeprefix("./")


def _box_metadata(path: Path) -> Mapping[str, Any]:
    with tarfile.open(path) as archive:
        for member in _members(archive):
            if _plain_name(member) == "metadata.json":
                file = archive.extractfile(member) if member.isreg() and member.size <= _MOST_METADATA else None
                metadata = json.load(file) if file else None
                if isinstance(metadata, dict):
                    return metadata
                break
    raise InvalidSpec(f"{path} has no usable metadata.json", message=f"{path.name} is no Vagrant box: it does not say what is in it.")


def _box_disk(metadata: Mapping[str, Any]) -> str:
    """The name of the one disk: `box.img`, or what the newer format lists."""
    provider = metadata.get("provider")
    if provider != "libvirt":
        raise InvalidSpec(f"provider {provider!r}", message="This box is for another hypervisor; only boxes for libvirt can be taken.")
    disks = metadata.get("disks")
    if disks is None:
        return "box.img"
    if not isinstance(disks, list) or len(disks) != 1 or not isinstance(disks[0], dict):
        raise InvalidSpec(f"disks: {disks!r}"[:200], message="Only boxes with one disk can be taken.")
    name = disks[0].get("path")
    if not isinstance(name, str) or not name or "/" in name or name in (".", ".."):
        raise InvalidSpec(f"disk {name!r}"[:200], message="The box names its disk in a way that is not allowed.")
    return name


def _take_out(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Copy the content alone: no name, link, owner or mode of the archive's choosing reaches the disk."""
    file = archive.extractfile(member) if member.isreg() else None
    if file is None:
        raise InvalidSpec(f"{member.name} is no plain file", message="The box's disk is no plain file.")
    free = shutil.disk_usage(target.parent).free
    if member.size > free:
        raise StorageFull(f"{member.size} bytes wanted, {free} free", message="There is not enough room to unpack the box.")
    with target.open("wb") as out:
        shutil.copyfileobj(file, out, 1024**2)
