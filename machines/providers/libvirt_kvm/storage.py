"""Volumes in the cluster's storage pool: templates, disks of machines, seeds.

Everything goes through libvirt's storage API, so the pool may lie on another host.
"""

import contextlib
import json
import re
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import libvirt

from machines.providers.errors import Busy, Incomplete, InvalidSpec, StorageFull, TaskFailed, TemplateMissing, Unreachable
from machines.providers.types import DiskInfo, TemplateInfo

from .errors_map import is_absent, translate

BASELINE = "labportal-baseline"  # snapshot of the disk as it was made
TEMPLATE_PREFIX = "template-"
SPARE_MIB = 256  # a pool with less room than this gets no new machine
MIB, GIB = 1024**2, 1024**3
_CHUNK = MIB


@dataclass(frozen=True, slots=True)
class CopyState:
    """How far the copying of a disk is. `written`: when it last moved, seconds since the epoch; 0: not begun."""

    at_work: bool = False
    written: float = 0.0


class Storage:
    """The pool of one cluster, within one call."""

    def __init__(self, raw: Any, pool: str, template_pool: str = "", path: str = "") -> None:
        self.raw = raw
        self.pool = _pool(raw, pool, path)
        self.template_pool = raw.storagePoolLookupByName(template_pool) if template_pool else self.pool
        self._own_template_pool = bool(template_pool)

    # -- templates -------------------------------------------------------------------------

    def templates(self) -> list[TemplateInfo]:
        _refresh(self.template_pool)
        found = []
        for volume in self.template_pool.listAllVolumes(0):
            name = volume.name()
            if self._is_template(name) and _format(volume) == "qcow2":  # else it is still being imported
                title = name.removeprefix(TEMPLATE_PREFIX).removesuffix(".qcow2")
                found.append(TemplateInfo(ref=name, name=title, disk_gib=volume.info()[1] / GIB))
        return sorted(found, key=lambda template: template.ref)

    def _is_template(self, name: str) -> bool:
        return name.endswith(".qcow2") and (self._own_template_pool or name.startswith(TEMPLATE_PREFIX))

    def template(self, ref: str) -> tuple[Any, int]:
        """The volume and its size in bytes. Raises TemplateMissing."""
        volume = _find_qcow2(self.template_pool, ref)[0] if self._is_template(ref) else None
        if volume is None:
            raise TemplateMissing(f"pool {self.template_pool.name()} has no template {ref}")
        return volume, int(volume.info()[1])

    def add_template(self, ref: str, path: Path) -> None:
        """Send a qcow2 file. Raises StorageFull, InvalidSpec where there is a template of this name."""
        size = path.stat().st_size
        self._require_room(self.template_pool, size)
        if any(template.ref == ref for template in self.templates()):
            raise InvalidSpec(f"{ref} exists", message="There is a template of this name already.")
        volume = _replace(self.template_pool, _volume_xml(ref, size, "raw"))
        try:
            with path.open("rb") as file:
                # The header last: until then it is no image, and nobody takes it for one.
                head = file.read(_CHUNK)
                _upload(self.raw, volume, file.read, len(head), size - len(head))
                _upload(self.raw, volume, _reader(head), 0, len(head))
        except BaseException:
            with contextlib.suppress(libvirt.libvirtError):
                volume.delete(0)
            raise
        _refresh(self.template_pool)

    def delete_template(self, ref: str) -> None:
        """Raises Busy while disks stand on it."""
        volume, _size = self.template(ref)
        path = volume.path()
        self.pool.refresh(0)
        for other in self.pool.listAllVolumes(0):
            backing = ET.fromstring(other.XMLDesc(0)).findtext("backingStore/path")  # noqa: S314 - libvirt's own
            if backing == path:
                raise Busy(f"{other.name()} stands on {ref}", message="Machines still stand on this template.")
        volume.delete(0)

    # -- disks of machines -----------------------------------------------------------------

    def linked_disk(self, ref: str, template: str, disk_gib: int | None) -> None:
        """A disk that holds only what differs from the template. It is made by sending a few hundred
        KiB that are the same for all machines of a template: an empty overlay with the baseline
        snapshot in it already."""
        volume, _size = self.template(template)
        content = _empty_overlay(volume.path(), self.require_size(template, disk_gib))
        self._require_room(self.pool, len(content))
        self._put(disk_name(ref), content)

    def require_size(self, template: str, disk_gib: int | None) -> int:
        """How large a disk of this template is to be, in bytes. Raises InvalidSpec, TemplateMissing."""
        size = self.template(template)[1]
        if disk_gib is None:
            return size
        if disk_gib * GIB < size:
            raise InvalidSpec(f"{disk_gib} GiB is less than the template's {size} bytes", message="The disk is smaller than the template's.")
        return disk_gib * GIB

    def copy_disk(self, ref: str, template: str) -> None:
        """Copy the whole template; blocks until that is done, which may take minutes."""
        volume, size = self.template(template)
        self._require_room(self.pool, int(volume.info()[2]))
        self.delete(disk_name(ref))
        self.pool.createXMLFrom(_volume_xml(disk_name(ref), size, "qcow2"), volume, 0)

    def copy_state(self, ref: str) -> CopyState:
        volume = self.find(disk_name(ref))
        if volume is None:
            return CopyState()
        written = ET.fromstring(volume.XMLDesc(0)).findtext("target/timestamps/mtime")  # noqa: S314 - libvirt's own
        stream = self.raw.newStream(0)
        try:
            volume.download(stream, 0, 1, 0)  # refused while it is being written
        except libvirt.libvirtError as error:
            if isinstance(translate(error), Busy):
                return CopyState(at_work=True, written=float(written or 0))
            raise
        stream.abort()
        return CopyState(written=float(written or 0))

    def copy_progress(self, ref: str, template: str) -> float | None:
        """0 to 1; None where that cannot be told."""
        volume = self.find(disk_name(ref))
        if volume is None:
            return 0.0
        try:
            total = self.template(template)[0].info()[2]
        except TemplateMissing:
            return None
        return min(1.0, volume.info()[2] / total) if total else None

    def grow(self, ref: str, disk_gib: int | None) -> None:
        """Make the disk as large as `disk_gib`. Raises InvalidSpec where it is larger already."""
        if disk_gib is None:
            return
        volume = self._disk(ref)
        capacity, wanted = int(volume.info()[1]), disk_gib * GIB
        if wanted < capacity:
            raise InvalidSpec(f"the disk has {capacity} bytes, more than {disk_gib} GiB", message="A disk can only grow.")
        if wanted > capacity:
            volume.resize(wanted, 0)

    def seed_disk(self, ref: str, content: bytes) -> None:
        self._put(seed_name(ref), content)

    def require_disk(self, ref: str) -> None:
        """Raises Incomplete where the file is gone."""
        self._disk(ref).info()

    def has_disk(self, ref: str) -> bool:
        """Whether the file is there; the pool is read anew before that is denied."""
        return _find_qcow2(self.pool, disk_name(ref))[1]

    def path_of(self, name: str) -> str:
        """Where the volume is, or will be, on the hypervisor."""
        return f"{self._folder}/{name}"

    @cached_property
    def _folder(self) -> str:
        path = ET.fromstring(self.pool.XMLDesc(0)).findtext("target/path")  # noqa: S314 - libvirt's own
        if not path:
            raise InvalidSpec(f"pool {self.pool.name()} is no folder", message="The cluster's storage pool has to be a folder.")
        return path

    def delete_all(self, ref: str) -> None:
        self.delete(disk_name(ref))
        self.delete(seed_name(ref))

    def find(self, name: str) -> Any | None:
        try:
            return self.pool.storageVolLookupByName(name)
        except libvirt.libvirtError as error:
            if is_absent(error):
                return None
            raise

    def delete(self, name: str) -> None:
        volume = self.find(name)
        if volume is not None:
            try:
                volume.delete(0)
            except libvirt.libvirtError as error:
                if "No such file" not in str(error) and not is_absent(error):
                    raise
                self.pool.refresh(0)

    def free_mib(self) -> int:
        return int(self.pool.info()[3] // MIB)

    def _disk(self, ref: str) -> Any:
        """The disk's volume, known to libvirt as the qcow2 that it is. Raises Incomplete, Busy."""
        volume, there = _find_qcow2(self.pool, disk_name(ref))
        if volume is not None:
            return volume
        if there:
            raise Busy(f"pool {self.pool.name()} was not read again yet")
        raise Incomplete(f"no volume {disk_name(ref)}")

    def _put(self, name: str, content: bytes) -> None:
        volume = _replace(self.pool, _volume_xml(name, len(content), "raw"))
        _upload(self.raw, volume, _reader(content), 0, len(content))

    def _require_room(self, pool: Any, size: int) -> None:
        free = int(pool.info()[3])
        if free - size < SPARE_MIB * MIB:
            raise StorageFull(f"pool {pool.name()} has {free // MIB} MiB left")


def template_ref(name: str) -> str:
    """Raises InvalidSpec."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", name):
        raise InvalidSpec(f"{name!r}", message="A template's name has letters, digits, dots and dashes.")
    return f"{TEMPLATE_PREFIX}{name}.qcow2"


def disk_name(ref: str) -> str:
    return f"{ref}.qcow2"


def seed_name(ref: str) -> str:
    return f"{ref}-seed.iso"


@lru_cache(maxsize=64)
def _empty_overlay(backing: str, size: int) -> bytes:
    """A qcow2 image of `size` bytes over `backing`, empty, with the baseline snapshot. `backing`
    need not be on this host: qemu-img is told not to open it."""
    with tempfile.TemporaryDirectory(prefix="labportal-overlay-") as folder:
        path = Path(folder) / "overlay.qcow2"
        _run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing, str(path), str(size))
        alone = json.dumps({"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": str(path)}})
        _run("qemu-img", "snapshot", "-q", "-c", BASELINE, f"json:{alone}")
        return path.read_bytes()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    if done.returncode:
        raise TaskFailed(f"{' '.join(command)}: {done.stderr.strip()}")


def disk_of(raw: Any, pool: str) -> DiskInfo | None:
    """As of the last refresh of the pool; None where it is not there, or not started. Starts nothing."""
    try:
        found = raw.storagePoolLookupByName(pool)
        _state, total, _used, free = found.info()
        return DiskInfo(free // GIB, total // GIB) if found.isActive() else None  # one that is stopped tells what it last had
    except libvirt.libvirtError:
        return None


def _pool(raw: Any, name: str, path: str) -> Any:
    """The storage pool, started. Made as a folder where `path` says so and it is not there."""
    try:
        pool = raw.storagePoolLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL or not path:
            raise
        root = ET.Element("pool", {"type": "dir"})
        ET.SubElement(root, "name").text = name
        ET.SubElement(ET.SubElement(root, "target"), "path").text = path
        pool = raw.storagePoolDefineXML(ET.tostring(root, encoding="unicode"), 0)
        pool.build(0)
        pool.setAutostart(1)
    if not pool.isActive():
        try:
            pool.create(0)
        except libvirt.libvirtError as error:
            if not pool.isActive():  # else another process was quicker
                raise error
    return pool


def _volume_xml(name: str, size: int, kind: str) -> str:
    root = ET.Element("volume")
    ET.SubElement(root, "name").text = name
    ET.SubElement(root, "capacity", {"unit": "bytes"}).text = str(size)
    ET.SubElement(root, "allocation", {"unit": "bytes"}).text = "0"
    target = ET.SubElement(root, "target")
    ET.SubElement(target, "format", {"type": kind})
    if kind == "qcow2":
        ET.SubElement(target, "compat").text = "1.1"
    return ET.tostring(root, encoding="unicode")


def _refresh(pool: Any) -> None:
    """Have libvirt look at the folder again. It refuses while volumes are being copied; what it knows is fresh enough then."""
    try:
        pool.refresh(0)
    except libvirt.libvirtError as error:
        if not isinstance(translate(error), Busy):
            raise


def _find_qcow2(pool: Any, name: str) -> tuple[Any | None, bool]:
    """The volume, where it is a qcow2, and whether there is such a file at all, whatever libvirt remembers."""
    volume, kind = _look_at(pool, name)
    if kind != "qcow2":
        _refresh(pool)  # sent, or put there, a moment ago: libvirt has not looked into it yet
        volume, kind = _look_at(pool, name)
    return (volume if kind == "qcow2" else None), volume is not None


def _look_at(pool: Any, name: str) -> tuple[Any | None, str]:
    """The volume and its format; None where there is no such file."""
    try:
        volume = pool.storageVolLookupByName(name)
        volume.info()  # libvirt remembers volumes; this looks at the file
        return volume, _format(volume)
    except libvirt.libvirtError as error:
        if isinstance(translate(error), Unreachable):
            raise
        return None, ""


def _format(volume: Any) -> str:
    found = ET.fromstring(volume.XMLDesc(0)).find("target/format")  # noqa: S314 - libvirt's own
    return found.get("type", "") if found is not None else ""


def _replace(pool: Any, xml: str) -> Any:
    """A new volume, instead of what an attempt that died may have left of it."""
    try:
        return pool.createXML(xml, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_STORAGE_VOL_EXIST and "already exists" not in str(error):
            raise
    _refresh(pool)  # libvirt may not know the file yet
    pool.storageVolLookupByName(ET.fromstring(xml).findtext("name")).delete(0)  # noqa: S314 - our own
    return pool.createXML(xml, 0)


def _reader(content: bytes) -> Callable[[int], bytes]:
    view, position = memoryview(content), 0

    def read(count: int) -> bytes:
        nonlocal position
        piece = bytes(view[position : position + count])
        position += len(piece)
        return piece

    return read


def _upload(raw: Any, volume: Any, read: Callable[[int], bytes], offset: int, length: int) -> None:
    stream = raw.newStream(0)
    try:
        volume.upload(stream, offset, length, 0)
        while piece := read(_CHUNK):
            sent = 0
            while sent < len(piece):
                sent += stream.send(piece[sent:])
        stream.finish()
    except BaseException:
        stream.abort()
        raise
