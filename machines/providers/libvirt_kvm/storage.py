"""Volumes in the cluster's storage pool: templates, disks of machines, seeds.

Everything goes through libvirt's storage API, so the pool may lie on another host.
"""

import json
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from functools import lru_cache
from pathlib import Path
from typing import Any

import libvirt

from machines.providers.errors import Busy, InvalidSpec, StorageFull, TaskFailed, TemplateMissing
from machines.providers.types import TemplateInfo

from .errors_map import is_absent

BASELINE = "labportal-baseline"  # snapshot of the disk as it was made
TEMPLATE_PREFIX = "template-"
SPARE_MIB = 256  # a pool with less room than this gets no new machine
GIB = 1024**3
_CHUNK = 1024**2


class Storage:
    """The pool of one cluster, within one call."""

    def __init__(self, raw: Any, pool: str, template_pool: str = "", path: str = "") -> None:
        self.raw = raw
        self.pool = _pool(raw, pool, path)
        self.template_pool = raw.storagePoolLookupByName(template_pool) if template_pool else self.pool
        self._own_template_pool = bool(template_pool)

    # -- templates -------------------------------------------------------------------------

    def templates(self) -> list[TemplateInfo]:
        self.template_pool.refresh(0)
        found = []
        for volume in self.template_pool.listAllVolumes(0):
            name = volume.name()
            if self._is_template(name):
                title = name.removeprefix(TEMPLATE_PREFIX).removesuffix(".qcow2")
                found.append(TemplateInfo(ref=name, name=title, disk_gib=volume.info()[1] / GIB))
        return sorted(found, key=lambda template: template.ref)

    def _is_template(self, name: str) -> bool:
        return name.endswith(".qcow2") and (self._own_template_pool or name.startswith(TEMPLATE_PREFIX))

    def template(self, ref: str) -> tuple[Any, int]:
        """The volume and its size in bytes. Raises TemplateMissing."""
        if not self._is_template(ref):
            raise TemplateMissing(f"{ref} is no template")
        try:
            volume = self.template_pool.storageVolLookupByName(ref)
            return volume, int(volume.info()[1])
        except libvirt.libvirtError as error:
            # libvirt remembers volumes; info() looks at the file itself.
            raise TemplateMissing(str(error)) from error

    def add_template(self, ref: str, path: Path) -> TemplateInfo:
        """Upload a qcow2 file. Raises StorageFull."""
        size = path.stat().st_size
        self._require_room(size)
        volume = self._replace_volume(self.template_pool, ref, size)
        with path.open("rb") as file:
            _upload(self.raw, volume, file.read, size)
        self.template_pool.refresh(0)
        return next(template for template in self.templates() if template.ref == ref)

    def delete_template(self, ref: str) -> None:
        """Raises Busy while disks stand on it."""
        volume, _size = self.template(ref)
        path = volume.path()
        self.pool.refresh(0)
        for other in self.pool.listAllVolumes(0):
            backing = ET.fromstring(other.XMLDesc(0)).findtext("backingStore/path")  # noqa: S314 - see above
            if backing == path:
                raise Busy(f"{other.name()} stands on {ref}", message="Machines still stand on this template.")
        volume.delete(0)

    # -- disks of machines -----------------------------------------------------------------

    def linked_disk(self, ref: str, template: str, disk_gib: int | None) -> str:
        """A disk that holds only what differs from the template. Returns its path.

        It is made by uploading a few hundred KiB that are the same for all machines of a
        template: an empty overlay with the baseline snapshot in it already.
        """
        volume, size = self.template(template)
        content = _empty_overlay(volume.path(), _size(size, disk_gib))
        self._require_room(len(content))
        return self._put(disk_name(ref), content)

    def begin_full_disk(self, ref: str, template: str) -> None:
        """Copy the template; blocks until that is done, which may take minutes. libvirt goes on
        with it when the caller dies."""
        volume, size = self.template(template)
        self._require_room(int(volume.info()[2]))
        self.delete(disk_name(ref))
        self.pool.createXMLFrom(_volume_xml(disk_name(ref), size, "qcow2"), volume, 0)

    def full_disk_progress(self, ref: str, template: str) -> float | None:
        """0 to 1 while the copy is at work, 1.0 when it is whole, None where there is none."""
        volume = self.find(disk_name(ref))
        if volume is None:
            return None
        _type, capacity, allocation = volume.info()
        try:
            volume.resize(capacity, 0)  # refused while it is being written, otherwise changes nothing
        except libvirt.libvirtError as error:
            if "allocated" in str(error) or "in use" in str(error):
                try:
                    total = self.template(template)[0].info()[2]
                except TemplateMissing:
                    total = capacity
                return min(0.99, allocation / total) if total else 0.0
            raise
        return 1.0

    def grow(self, ref: str, disk_gib: int | None) -> None:
        """Make the disk as large as `disk_gib`. Raises InvalidSpec where it is larger already."""
        volume = self._disk(ref)
        if disk_gib is None:
            return
        capacity, wanted = int(volume.info()[1]), disk_gib * GIB
        if wanted < capacity:
            raise InvalidSpec(f"the disk has {capacity} bytes, more than {disk_gib} GiB", message="A disk can only grow.")
        if wanted > capacity:
            volume.resize(wanted, 0)

    def seed_disk(self, ref: str, content: bytes) -> str:
        return self._put(seed_name(ref), content)

    def disk_path(self, ref: str) -> str:
        return str(self._disk(ref).path())

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
        return int(self.pool.info()[3] // 1024**2)

    def _disk(self, ref: str) -> Any:
        volume = self.find(disk_name(ref))
        if volume is None:
            self.pool.refresh(0)  # written by somebody else, for instance before the daemon came up
            volume = self.find(disk_name(ref))
        if volume is None:
            raise TaskFailed(f"no volume {disk_name(ref)}", message="The machine's disk is gone from the cluster.")
        return volume

    def _put(self, name: str, content: bytes) -> str:
        volume = self._replace_volume(self.pool, name, len(content))
        view = memoryview(content)
        position = 0

        def read(count: int) -> bytes:
            nonlocal position
            piece = bytes(view[position : position + count])
            position += len(piece)
            return piece

        _upload(self.raw, volume, read, len(content))
        return str(volume.path())

    def _replace_volume(self, pool: Any, name: str, size: int) -> Any:
        xml = _volume_xml(name, size, "raw")
        try:
            return pool.createXML(xml, 0)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_STORAGE_VOL_EXIST and "already exists" not in str(error):
                raise
        # What is there was left by an attempt that died before the machine was defined.
        pool.refresh(0)
        pool.storageVolLookupByName(name).delete(0)
        return pool.createXML(xml, 0)

    def _require_room(self, size: int) -> None:
        free = self.free_mib()
        if free - size // 1024**2 < SPARE_MIB:
            raise StorageFull(f"pool {self.pool.name()} has {free} MiB left")


def disk_name(ref: str) -> str:
    return f"{ref}.qcow2"


def seed_name(ref: str) -> str:
    return f"{ref}-seed.iso"


def _size(template_bytes: int, disk_gib: int | None) -> int:
    if disk_gib is None:
        return template_bytes
    if disk_gib * GIB < template_bytes:
        raise InvalidSpec(f"{disk_gib} GiB is less than the template's {template_bytes} bytes", message="The disk is smaller than the template's.")
    return disk_gib * GIB


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


def _upload(raw: Any, volume: Any, read: Any, size: int) -> None:
    stream = raw.newStream(0)
    try:
        volume.upload(stream, 0, size, 0)
        while piece := read(_CHUNK):
            sent = 0
            while sent < len(piece):
                sent += stream.send(piece[sent:])
        stream.finish()
    except BaseException:
        stream.abort()
        raise
