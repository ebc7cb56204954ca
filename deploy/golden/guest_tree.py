"""The guest's file tree and its first memory disk, put together from unpacked packages."""

import gzip
import lzma
import re
import shutil
import stat
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

from packages import BuildError, run

HERE = Path(__file__).parent
PROGRAMS = ["bash", "sshd", "ssh", "scp", "ssh-keygen", "qemu-ga", "doas", "pam_permit.so", "resize2fs"]
# Some releases have these and cannot do without, others do not have them.
OPTIONAL = ["sshd-session", "sshd-auth", "libnss_files.so.2", "libnss_dns.so.2"]
FOR_THE_DISK = ["virtio_pci", "virtio_blk", "ext4"]
MODULES = ["virtio_net", "virtio_console", "virtio_rng", "virtio_balloon", "button", "evdev", "isofs"]
TERMINALS = ["linux", "vt220", "vt100", "xterm", "xterm-256color", "screen", "screen-256color", "tmux", "tmux-256color", "dumb"]
# Keyboard layouts by X's names, with the variant after a dash.
LAYOUTS = [
    "us", "gb", "de", "at", "ch", "ch-fr", "fr", "be", "it", "es", "pt", "br", "nl",
    "dk", "no", "se", "fi", "pl", "cz", "sk", "hu", "si", "hr", "ro", "tr", "is",
]  # fmt: skip


class GuestTree:
    """A root directory under `root`, filled from the unpacked packages at `source`."""

    def __init__(self, source: Path, root: Path) -> None:
        self.source = source
        self.root = root
        self._kernel_modules = {path.name.split(".")[0].replace("-", "_"): path for path in (source / "usr/lib/modules").rglob("*.ko*")}
        self._files = {path.name: path for path in (source / "usr").rglob("*") if not path.is_dir() and not {"modules", "share"} & set(path.parts)}

    def assemble(self) -> None:
        self._skeleton()
        self._busybox()
        for name in PROGRAMS:
            self._program(name)
        for name in OPTIONAL:
            if name in self._files:
                self._program(name)
        self._loader()
        self._terminals()
        self._keyboards()
        self._modules()
        shutil.copytree(HERE / "guest", self.root, dirs_exist_ok=True)
        for path, mode in (("etc/shadow", 0o600), ("etc/doas.conf", 0o600), ("root", 0o700), ("tmp", 0o1777), ("usr/bin/doas", 0o4755), ("var/empty", 0o755)):
            (self.root / path).chmod(mode)
        (self.root / "boot/vmlinuz").write_bytes(_only(self.source / "boot", "vmlinuz-*").read_bytes())
        (self.root / "boot/initrd.gz").write_bytes(self.initrd())

    def _skeleton(self) -> None:
        for path in ("usr/bin", "usr/sbin", "usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/share/keymaps", "boot/grub", "etc/default", "etc/ssh"):
            (self.root / path).mkdir(parents=True)
        for path in ("dev", "proc", "sys", "run", "tmp", "mnt", "root", "home", "var/empty", "var/log", "var/lib/seed", "usr/lib/modules"):
            (self.root / path).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.root / name).symlink_to(f"usr/{name}")
        (self.root / "var/run").symlink_to("../run")

    def _busybox(self) -> None:
        busybox = self.source / "usr/bin/busybox"
        shutil.copy2(busybox, self.root / "usr/bin/busybox")
        (self.root / "usr/bin/busybox").chmod(0o4755)  # drops the right again for all but su, passwd and ping
        for applet in run(busybox, "--list-full").split():
            name = Path(applet).name
            folder = "sbin" if "sbin/" in applet else "bin"
            if name not in ("busybox", "dpkg", "dpkg-deb", "rpm", "rpm2cpio", "linuxrc"):
                (self.root / "usr" / folder / name).symlink_to("/usr/bin/busybox")

    def _program(self, name: str) -> None:
        """Copy a program or library to where the package has it, with the libraries it needs."""
        found = self._files.get(name)
        if found is None:
            raise BuildError(f"The packages have no {name}.")
        target = self.root / found.relative_to(self.source)
        if target.exists() and not target.is_symlink():
            return
        target.unlink(missing_ok=True)  # a busybox applet of that name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, target)
        target.chmod(0o755)
        for needed in needed_libraries(target.read_bytes()):
            self._program(needed)

    def _loader(self) -> None:
        """Every program names its loader by this path; the packages have it there, or only a link to it."""
        loader = self.root / "usr/lib64/ld-linux-x86-64.so.2"
        if not loader.exists():
            loader.symlink_to("../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")

    def _terminals(self) -> None:
        for name in TERMINALS:
            found = next(self.source.glob(f"usr/*/terminfo/{name[0]}/{name}"), None)
            if found is not None:
                target = self.root / "usr/lib/terminfo" / name[0] / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found, target)

    def _keyboards(self) -> None:
        """Made from X's tables, which the console in the browser goes by as well: the keymaps that
        come with console-data have other characters on some keys."""
        for name in LAYOUTS:
            layout, _, variant = name.partition("-")
            wanted = ["-model", "pc105", "-layout", layout, *(["-variant", variant] if variant else [])]
            keymap = run("perl", self.source / "usr/bin/ckbcomp", f"-I{self.source}/usr/share/X11/xkb", *wanted)
            binary = subprocess.run([*self.tool("loadkeys"), "-q", "-u", "-b"], input=keymap.encode(), capture_output=True)
            if not binary.stdout.startswith(b"bkeymap"):
                raise BuildError(f"loadkeys cannot read {name}: {binary.stderr.decode(errors='replace')}")
            (self.root / f"usr/share/keymaps/{name}.bmap").write_bytes(binary.stdout)

    def tool(self, name: str) -> list[str | Path]:
        """How to run a program of the unpacked packages here: with their own loader and libraries."""
        libraries = self.source / "usr/lib/x86_64-linux-gnu"
        return [self.source / "usr/lib64/ld-linux-x86-64.so.2", "--library-path", libraries, self._files[name]]

    # -- kernel modules --------------------------------------------------------------------

    def _modules(self) -> None:
        folder = self.root / "usr/lib/modules"
        names = self._load(MODULES, folder, without=self._order(FOR_THE_DISK))
        (folder / "order").write_text("".join(f"{name}.ko\n" for name in names))

    def _load(self, modules: Iterable[str], folder: Path, without: Iterable[str] = ()) -> list[str]:
        names = [name for name in self._order(modules) if name not in set(without)]
        for name in names:
            (folder / f"{name}.ko").write_bytes(self._module(name) or b"")
        return names

    def _order(self, modules: Iterable[str]) -> list[str]:
        """The modules with those they need, in the order they must be loaded. What is part of the kernel itself is left out."""
        order: list[str] = []
        for name in modules:
            content = self._module(name)
            if content is None or name in order:
                continue
            listed = re.search(rb"\0depends=([^\0]*)\0", content)
            for needed in (*self._order(listed[1].decode().split(",") if listed and listed[1] else ()), name):
                if needed not in order:
                    order.append(needed)
        return order

    def _module(self, name: str) -> bytes | None:
        path = self._kernel_modules.get(name.replace("-", "_"))
        if path is None:
            return None
        if path.suffix == ".xz":
            return lzma.decompress(path.read_bytes())
        if path.suffix == ".zst":
            return subprocess.run([*self.tool("zstd"), "-dcq", path], capture_output=True, check=True).stdout
        return path.read_bytes()

    def initrd(self) -> bytes:
        """A memory disk that finds the root partition and goes there."""
        root = self.root.parent / "initrd"
        for path in ("bin", "dev", "proc", "sys", "root", "lib"):
            (root / path).mkdir(parents=True)
        shutil.copy2(self.source / "usr/bin/busybox", root / "bin/busybox")
        (root / "bin/sh").symlink_to("busybox")
        shutil.copy2(HERE / "initrd/init", root / "init")
        names = self._load(FOR_THE_DISK, root / "lib")
        (root / "lib/order").write_text("".join(f"{name}.ko\n" for name in names))
        return gzip.compress(cpio(root), mtime=0)


def needed_libraries(elf: bytes) -> list[str]:
    """The DT_NEEDED names of a 64-bit little-endian ELF file; none where it is something else."""
    if elf[:6] != b"\x7fELF\x02\x01":
        return []
    (offset,) = struct.unpack_from("<Q", elf, 40)
    size, count = struct.unpack_from("<HH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, offset + index * size) for index in range(count)]
    names: list[str] = []
    for section in sections:
        if section[1] != 6:  # SHT_DYNAMIC
            continue
        strings = sections[section[6]][4]
        for place in range(section[4], section[4] + section[5], 16):
            tag, value = struct.unpack_from("<qQ", elf, place)
            if tag == 1:  # DT_NEEDED
                start = strings + value
                names.append(elf[start : elf.index(b"\0", start)].decode())
    return names


def cpio(root: Path) -> bytes:
    """`root` as a cpio archive (newc), everything owned by root."""
    out = bytearray()

    def entry(name: str, mode: int, content: bytes) -> None:
        fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        out.extend(b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0")
        out.extend(bytes(-len(out) % 4))
        out.extend(content)
        out.extend(bytes(-len(out) % 4))

    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        content = bytes(path.readlink()) if stat.S_ISLNK(mode) else path.read_bytes() if stat.S_ISREG(mode) else b""
        entry(str(path.relative_to(root)), mode, content)
    entry("TRAILER!!!", 0, b"")
    return bytes(out)


def _only(folder: Path, pattern: str = "*") -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise BuildError(f"The packages have no {folder.name}/{pattern}.")
    return found[-1]
