"""A libvirt daemon of the portal's own: unprivileged, with all its state in one folder.

    daemon = prepare(Path("data/hypervisor"))
    process = subprocess.Popen(daemon.argv, env={**os.environ, **daemon.env})
    daemon.wait_ready(30)
    …
    daemon.stop_machines()
    process.terminate()
    process.wait()
    daemon.release()

The system's own libvirt, where there is one, is neither used nor disturbed.
"""

import contextlib
import grp
import hashlib
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt

from machines.providers.errors import Unreachable

from . import reaper

# Whoever may run it when we are root, the first that exists. Debian makes the first one with libvirt.
ACCOUNTS = ("libvirt-qemu", "labportal", "nobody")
SOCKET_LIMIT = 107  # characters in the path of a Unix socket
# The longest path libvirt makes below the folder: an agent's socket of machine 9999999.
LONGEST = len("/c/libvirt/qemu/channel/target/domain-9999999-12345678901234567890/org.qemu.guest_agent.0")
ELSEWHERE = Path("/var/lib/labportal")  # where only root goes and the account cannot follow into the wanted folder
SHORT = (Path("/run"), Path("/tmp"))  # noqa: S108 - the name in it is checked to be ours

_QEMU_CONF = """\
# Written by labportal at every start.
stdio_handler = "file"
"""
_LIBVIRTD_CONF = """\
# Written by labportal at every start.
log_outputs = "3:stderr"
# A machine that hangs holds on to every worker that asks it something.
max_workers = 60
max_client_requests = 20
"""


class DaemonError(Exception):
    """There can be no private daemon; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """How to run it, and where it is then. `env` is added to the caller's environment."""

    folder: Path
    argv: list[str]
    env: dict[str, str] = field(repr=False)
    socket: Path
    account: str  # who runs it and its machines
    moved: bool = False  # the folder is not the one asked for: see ELSEWHERE
    link: Path | None = None  # to the folder, where its own name is too long for sockets

    @property
    def uri(self) -> str:
        return f"qemu+unix:///session?socket={self.socket}"

    @property
    def pool_path(self) -> Path:
        """The folder for disks."""
        return self.folder / "pool"

    def answers(self) -> bool:
        """Whether it takes connections."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            try:
                client.connect(str(self.socket))
            except OSError:
                return False
        return True

    def wait_ready(self, seconds: float) -> None:
        """Until it takes connections. Raises Unreachable after `seconds`."""
        deadline = time.monotonic() + seconds
        while not self.answers():
            if time.monotonic() > deadline:
                raise Unreachable(f"no answer at {self.socket} within {seconds:g} s")
            time.sleep(0.05)

    def stop_machines(self, grace: float = 6.0, hurry: Callable[[], bool] = lambda: False) -> int:
        """Switch off whatever runs: by the power button, and by force after `grace` seconds or when `hurry`
        says so. Takes at most 20 s more. Returns how many machines were on. Raises Unreachable."""
        return stop_machines(self.uri, grace, hurry)

    def release(self) -> None:
        """Take back what was made outside the folder. Only once the daemon and its machines have ended."""
        if self.link is not None:
            self.link.unlink(missing_ok=True)


def prepare(folder: Path) -> Daemon:
    """Make the folder and the configuration. May be called again at any time. Raises DaemonError."""
    program = shutil.which("libvirtd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        raise DaemonError("libvirtd is not installed (Debian and Ubuntu: libvirt-daemon, libvirt-daemon-driver-qemu).")
    account = _account()
    wanted = folder.resolve()
    moved = not _may_enter(account, wanted.parent)
    if moved:
        wanted = ELSEWHERE / _digest(wanted)
        ELSEWHERE.mkdir(mode=0o711, exist_ok=True)
    wanted.mkdir(mode=0o711, parents=True, exist_ok=True)
    if not _may_enter(account, wanted.parent):
        raise DaemonError(f"The account {account.pw_name}, which runs the machines, may not enter {wanted.parent}.")
    _furnish(wanted, account)
    short = _short_name(wanted)
    env = {
        "HOME": str(wanted / "home"),
        "XDG_CONFIG_HOME": str(short / "c"),
        "XDG_RUNTIME_DIR": str(short / "run"),
        "XDG_CACHE_HOME": str(wanted / "cache"),
        "XDG_DATA_HOME": str(wanted / "share"),
    }
    user = ["--user", account.pw_name] if os.geteuid() == 0 else []
    argv = [sys.executable, "-I", reaper.__file__, *user, program]
    return Daemon(wanted, argv, env, short / "run/libvirt/libvirt-sock", account.pw_name, moved, short if short != wanted else None)


def stop_machines(uri: str, grace: float, hurry: Callable[[], bool]) -> int:
    """See Daemon.stop_machines."""
    try:
        raw = libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise Unreachable(str(error)) from error
    try:
        running = raw.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        # Each in a thread: a machine that hangs answers no call, and the others need not wait for it.
        _at_once([machine.shutdown for machine in running])
        _wait(lambda: not any(map(_is_on, running)) or hurry(), grace)
        _at_once([machine.destroy for machine in running if _is_on(machine)])
        _wait(lambda: not any(map(_is_on, running)), 20)
    finally:
        raw.close()
    return len(running)


def _at_once(calls: list[Callable[[], object]]) -> None:
    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except libvirt.libvirtError:
            return  # off already, or not to be asked: what counts is its state afterwards

    for call in calls:
        threading.Thread(target=run, args=(call,), daemon=True).start()


def _is_on(machine: "libvirt.virDomain") -> bool:
    try:
        return bool(machine.isActive())
    except libvirt.libvirtError:
        return False  # gone


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def _account() -> pwd.struct_passwd:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    known = {account.pw_name: account for account in pwd.getpwall()}
    for name in ACCOUNTS:
        if name in known:
            return known[name]
    raise DaemonError(f"There is no account to run libvirt as; one of {', '.join(ACCOUNTS)} is needed.")


def _may_enter(account: pwd.struct_passwd, folder: Path) -> bool:
    """Whether the account can go into `folder` and all folders above it, as far as they exist."""
    if os.geteuid() != 0:
        return True  # we are that account, and mkdir will tell
    groups = {account.pw_gid} | {group.gr_gid for group in grp.getgrall() if account.pw_name in group.gr_mem}
    for place in (folder, *folder.parents):
        if not place.exists():
            continue
        about = place.stat()
        bit = stat.S_IXUSR if about.st_uid == account.pw_uid else stat.S_IXGRP if about.st_gid in groups else stat.S_IXOTH
        if not about.st_mode & bit:
            return False
    return True


_FURNISH = """
set -eu
umask 077
cd "$1"
mkdir -p c/libvirt run cache share home pool
printf %s "$2" > c/libvirt/qemu.conf
printf %s "$3" > c/libvirt/libvirtd.conf
"""


def _furnish(folder: Path, account: pwd.struct_passwd) -> None:
    """What is in the folder belongs to the account, and is made and written by it alone: a link that
    a guest who broke out of QEMU leaves there leads root nowhere. Raises DaemonError."""
    as_account: dict[str, Any] = {}
    if os.geteuid() == 0:
        os.chown(folder, account.pw_uid, account.pw_gid, follow_symlinks=False)
        as_account = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    done = subprocess.run(["/bin/sh", "-c", _FURNISH, "sh", folder, _QEMU_CONF, _LIBVIRTD_CONF], capture_output=True, text=True, check=False, **as_account)
    if done.returncode:
        raise DaemonError(f"{folder} could not be set up: {done.stderr.strip()}")


def _short_name(folder: Path) -> Path:
    """`folder`, or a link to it where Unix sockets in it would have longer paths than they can. Raises DaemonError."""
    if len(str(folder)) + LONGEST <= SOCKET_LIMIT:
        return folder
    place = SHORT[0] if os.geteuid() == 0 else SHORT[1]
    _clear_stale(place)
    link = place / f"lp-{_digest(folder)}"
    try:
        link.symlink_to(folder)
    except FileExistsError:
        # Anybody may write to /tmp: the link must be ours and lead where it should.
        if link.lstat().st_uid != os.geteuid() or not link.is_symlink() or link.readlink() != folder:
            raise DaemonError(f"{link} is in the way. It should be a link to {folder}.") from None
    return link


def _clear_stale(place: Path) -> None:
    """Remove links of ours that lead nowhere: their daemon was killed and its folder is gone."""
    for link in place.glob("lp-*"):
        with contextlib.suppress(OSError):  # another portal that starts does the same
            if link.is_symlink() and link.lstat().st_uid == os.geteuid() and not link.exists():
                link.unlink()


def _digest(folder: Path) -> str:
    return hashlib.sha256(f"{os.geteuid()} {folder}".encode()).hexdigest()[:8]
