"""The parts of the golden image's builder that need no packages."""

import importlib
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

GOLDEN = Path(__file__).resolve().parents[2] / "deploy/golden"

APT_CACHE = """\
bash
  PreDepends: libc6
  Depends: base-files
 |Depends: <awk>
    gawk
  Depends: mawk
busybox-static
libc6
  Depends: libgcc-s1
libgcc-s1
  Depends: gcc-12-base
tool
 |Depends: libfirst1
  Depends: libsecond1
 |Depends: <libvirtual1>
    libother1
  Depends: libreal1
  Depends: debconf
  Depends: zlib1g:any
"""


@pytest.fixture(autouse=True, scope="module")
def _builder_on_path() -> Iterator[None]:
    sys.path.insert(0, str(GOLDEN))
    yield
    sys.path.remove(str(GOLDEN))
    for name in ("build", "disk", "guest_tree", "packages"):
        sys.modules.pop(name, None)


@pytest.fixture
def packages() -> ModuleType:
    return importlib.import_module("packages")


@pytest.fixture
def guest_tree() -> ModuleType:
    return importlib.import_module("guest_tree")


def test_of_alternatives_the_first_that_exists(packages: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "run", lambda *_argv: APT_CACHE)
    graph = packages.depends(["bash", "tool"])
    assert graph["bash"] == ["libc6", "base-files", "mawk"]
    assert graph["tool"] == ["libfirst1", "libreal1", "debconf", "zlib1g"]


def test_libraries_are_followed_and_nothing_else(packages: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "run", lambda *_argv: APT_CACHE)
    assert packages.with_libraries(["bash", "tool"]) == ["bash", "libc6", "libfirst1", "libgcc-s1", "libreal1", "tool", "zlib1g"]


def test_the_kernels_of_both_distributions(packages: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    debian = {"linux-image-cloud-amd64": ["linux-image-6.1.0-56-cloud-amd64"], "linux-image-6.1.0-56-cloud-amd64": ["kmod"]}
    ubuntu = {"linux-image-virtual": ["linux-image-6.8.0-45-generic"], "linux-image-6.8.0-45-generic": ["kmod", "linux-modules-6.8.0-45-generic"]}
    for known, expected in ((debian, ["linux-image-6.1.0-56-cloud-amd64"]), (ubuntu, ["linux-image-6.8.0-45-generic", "linux-modules-6.8.0-45-generic"])):
        monkeypatch.setattr(packages, "depends", lambda _names, known=known: known)
        assert packages.kernel_packages() == expected
    monkeypatch.setattr(packages, "depends", lambda _names: {})
    with pytest.raises(packages.BuildError, match="apt-get update"):
        packages.kernel_packages()


def test_a_program_that_is_missing_or_fails_is_named(packages: ModuleType) -> None:
    with pytest.raises(packages.BuildError, match="no-such-program is not installed"):
        packages.run("no-such-program")
    with pytest.raises(packages.BuildError, match="it broke"):
        packages.run("sh", "-c", "echo it broke >&2; exit 1")


def test_the_libraries_a_program_needs(guest_tree: ModuleType) -> None:
    assert "libc.so.6" in guest_tree.needed_libraries(Path(sys.executable).resolve().read_bytes())
    assert guest_tree.needed_libraries(b"#!/bin/sh\n") == []


def test_a_memory_disk_others_can_read(guest_tree: ModuleType, tmp_path: Path) -> None:
    if shutil.which("cpio") is None:
        pytest.skip("no cpio here")
    root, out = tmp_path / "root", tmp_path / "out"
    (root / "bin").mkdir(parents=True)
    out.mkdir()
    (root / "bin/program").write_bytes(b"#!/bin/sh\nexit\n")
    (root / "bin/program").chmod(0o755)
    (root / "bin/sh").symlink_to("program")
    subprocess.run(["cpio", "-i", "--quiet"], input=guest_tree.cpio(root), cwd=out, check=True)
    assert (out / "bin/program").read_bytes() == b"#!/bin/sh\nexit\n"
    assert (out / "bin/program").stat().st_mode & 0o777 == 0o755
    assert (out / "bin/sh").readlink() == Path("program")


def test_modules_in_the_order_they_are_loaded(guest_tree: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {"ext4": "mbcache,jbd2", "jbd2": "crc32c", "mbcache": "", "crc32c": ""}
    tree = object.__new__(guest_tree.GuestTree)
    monkeypatch.setattr(tree, "_module", lambda name: b"\0depends=%s\0" % needs[name].encode() if name in needs else None, raising=False)
    assert tree._order(["built_in", "ext4", "jbd2"]) == ["mbcache", "crc32c", "jbd2", "ext4"]


def test_one_bootable_partition_to_the_end_of_the_disk(tmp_path: Path) -> None:
    disk = importlib.import_module("disk")
    (tmp_path / "usr/lib/grub/i386-pc").mkdir(parents=True)
    (tmp_path / "usr/lib/grub/i386-pc/boot.img").write_bytes(b"\xeb" * 512)
    sector = disk.boot_sector(type("Tree", (), {"source": tmp_path})(), 1024)
    assert len(sector) == 512
    assert sector[-2:] == b"\x55\xaa"
    assert sector[:440] == b"\xeb" * 440
    active, kind, start, length = sector[446], sector[450], *struct.unpack_from("<II", sector, 454)
    assert (active, kind, start, start + length) == (0x80, 0x83, 2048, 1024 * 2048)


def test_every_script_of_the_guest_parses() -> None:
    scripts = [path for path in (GOLDEN / "guest").rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh")]
    assert len(scripts) >= 6
    for script in [*scripts, GOLDEN / "initrd/init"]:
        subprocess.run(["sh", "-n", script], check=True)
        assert script.stat().st_mode & 0o111
