"""Images and boxes from outside, the hostile ones first."""

import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest

from machines.providers.errors import InvalidSpec, StorageFull
from machines.providers.libvirt_kvm import images

GIB = 1024**3


def qcow2(*, backing: int = 0, size: int = GIB, encryption: int = 0, features: int = 0, version: int = 3) -> bytes:
    """The header of an image."""
    start = struct.pack(">4sIQIIQI", b"QFI\xfb", version, backing, 11 if backing else 0, 16, size, encryption)
    return start.ljust(72, b"\0") + struct.pack(">Q", features) + bytes(512)


def box(path: Path, members: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                about = tarfile.TarInfo(name)
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))
    return path


def metadata(**more: Any) -> bytes:
    return json.dumps({"provider": "libvirt", "format": "qcow2", "virtual_size": 1, **more}).encode()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.type, about.linkname = kind, target
    return about


def refused(path: Path, folder: Path) -> str:
    with pytest.raises(InvalidSpec) as raised:
        images.prepare(path, folder)
    return raised.value.message


def test_an_image_that_stands_on_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    for version in (2, 3):
        path.write_bytes(qcow2(version=version))
        assert images.inspect(path) == images.Image(path, GIB)
        assert images.prepare(path, tmp_path) == path


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (qcow2(backing=512), "refers to another file"),
        (qcow2(features=1 << 2), "refers to another file"),
        (qcow2(encryption=1), "encrypted"),
        (qcow2(encryption=2), "encrypted"),
        (qcow2(features=1 << 1), "damaged"),
        (qcow2(size=0), "damaged"),
        (qcow2(size=1 << 60), "damaged"),
        (qcow2(version=1), "no qcow2"),
        (b"QFI\xfb", "no qcow2"),
        (b"KDMV" + bytes(600), "neither"),
        (b"", "neither"),
    ],
)
def test_an_image_that_does_not(tmp_path: Path, header: bytes, words: str) -> None:
    path = tmp_path / "a.qcow2"
    path.write_bytes(header)
    assert words in refused(path, tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "none.qcow2", tmp_path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_box_however_it_is_packed(tmp_path: Path, mode: str) -> None:
    path = box(tmp_path / "a.box", {"./metadata.json": metadata(), "./Vagrantfile": b"", "./box.img": qcow2()}, mode)
    taken = images.prepare(path, tmp_path)
    assert taken.read_bytes() == qcow2()


def test_a_box_of_the_newer_format(tmp_path: Path) -> None:
    path = box(tmp_path / "a.box", {"metadata.json": metadata(disks=[{"path": "disk1.qcow2"}]), "disk1.qcow2": qcow2()})
    assert images.prepare(path, tmp_path).read_bytes() == qcow2()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"box.img": qcow2()}, "does not say what is in it"),
        ({"metadata.json": b"[]", "box.img": qcow2()}, "does not say what is in it"),
        ({"metadata.json": b"{", "box.img": qcow2()}, "no Vagrant box that can be read"),
        ({"metadata.json": link("metadata.json", "/etc/shadow"), "box.img": qcow2()}, "does not say what is in it"),
        ({"metadata.json": metadata(provider="virtualbox"), "box.img": qcow2()}, "another hypervisor"),
        ({"metadata.json": metadata()}, "has no disk named box.img"),
        ({"metadata.json": metadata(), "box.img": link("box.img", "/etc/shadow")}, "no plain file"),
        ({"metadata.json": metadata(), "box.img": link("box.img", "/etc/shadow", tarfile.LNKTYPE)}, "no plain file"),
        ({"metadata.json": metadata(), "box.img": link("box.img", "", tarfile.CHRTYPE)}, "no plain file"),
        ({"metadata.json": metadata(), "box.img": qcow2(backing=512)}, "refers to another file"),
        ({"metadata.json": metadata(disks=[{"path": "../../etc/shadow"}]), "../../etc/shadow": qcow2()}, "not allowed"),
        ({"metadata.json": metadata(disks=[{"path": "/etc/shadow"}])}, "not allowed"),
        ({"metadata.json": metadata(disks=[{"path": 7}])}, "not allowed"),
        ({"metadata.json": metadata(disks=[]), "box.img": qcow2()}, "one disk"),
        ({"metadata.json": metadata(disks=[{"path": "a"}, {"path": "b"}])}, "one disk"),
        ({f"{number}": b"" for number in range(200)}, "more files"),
    ],
)
def test_a_hostile_or_foreign_box(tmp_path: Path, members: dict[str, bytes | tarfile.TarInfo], words: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    assert words in refused(box(tmp_path / "a.box", members), inside)
    assert [path.name for path in inside.iterdir()] in ([], ["box.qcow2"])


def test_a_box_that_was_cut_off(tmp_path: Path) -> None:
    path = box(tmp_path / "a.box", {"metadata.json": metadata(), "box.img": qcow2() + bytes(100_000)})
    path.write_bytes(path.read_bytes()[:-60])
    assert "can be read" in refused(path, tmp_path)


def test_a_box_larger_than_the_room_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = box(tmp_path / "a.box", {"metadata.json": metadata(), "box.img": qcow2()})
    monkeypatch.setattr(images.shutil, "disk_usage", lambda _folder: type("Usage", (), {"free": 10})())
    with pytest.raises(StorageFull):
        images.prepare(path, tmp_path)
