"""Preparing a private daemon, and the reaper it runs under."""

import contextlib
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from machines.providers.libvirt_kvm import daemon, reaper
from tests.machines.providers.lab import until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
ME = pwd.getpwuid(os.geteuid())


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, with libvirtd pretended and no accounts changed."""
    monkeypatch.setattr(daemon.shutil, "which", lambda *_args, **_more: "/usr/sbin/libvirtd")
    monkeypatch.setattr(daemon, "ELSEWHERE", tmp_path / "elsewhere")
    monkeypatch.setattr(daemon, "SHORT", (tmp_path, tmp_path))
    monkeypatch.setattr(daemon, "_account", lambda: ME)
    return tmp_path


def let_everybody_into(folder: Path) -> None:
    for place in (folder, *folder.parents):
        if not place.stat().st_mode & 0o001:
            place.chmod(0o711)


def test_all_its_state_is_in_one_folder(somewhere: Path) -> None:
    folder = somewhere / "hypervisor"
    prepared = daemon.prepare(folder)
    assert prepared == daemon.prepare(folder)
    assert prepared.folder == folder
    assert not prepared.moved
    for place in (*prepared.env.values(), str(prepared.socket.parent), str(prepared.pool_path)):
        assert Path(place).resolve().is_relative_to(folder)
    assert 'stdio_handler = "file"' in (folder / "c/libvirt/qemu.conf").read_text()
    assert prepared.uri == f"qemu+unix:///session?socket={prepared.socket}"
    assert prepared.argv[-1] == "/usr/sbin/libvirtd"
    assert not prepared.answers()


@as_root
def test_a_link_that_the_account_leaves_leads_root_nowhere(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "_account", lambda: pwd.getpwnam("nobody"))
    let_everybody_into(somewhere)
    precious = somewhere / "precious"
    precious.write_text("root's own")
    prepared = daemon.prepare(somewhere / "hypervisor")
    config = prepared.folder / "c/libvirt/qemu.conf"
    config.unlink()
    config.symlink_to(precious)
    with pytest.raises(daemon.DaemonError, match=r"could not be set up: .*qemu.conf"):
        daemon.prepare(somewhere / "hypervisor")
    assert precious.read_text() == "root's own" and precious.stat().st_uid == 0


def test_paths_of_sockets_stay_short_however_deep_the_folder_is(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "SOCKET_LIMIT", daemon.LONGEST + len(str(somewhere)) + 12)  # room for one short name
    deep = somewhere / "deep" / "er"
    assert Path(daemon.prepare(somewhere / "short").env["XDG_CONFIG_HOME"]) == somewhere / "short/c"
    prepared = daemon.prepare(deep)
    assert len(prepared.env["XDG_CONFIG_HOME"]) - len("/c") + daemon.LONGEST <= daemon.SOCKET_LIMIT
    assert Path(prepared.env["XDG_CONFIG_HOME"]).resolve() == deep / "c"
    assert prepared.pool_path == deep / "pool"  # disks are known by the name that stays


def test_the_short_name_goes_when_the_daemon_has_ended(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "SOCKET_LIMIT", 1000)
    assert daemon.prepare(somewhere / "short").link is None
    monkeypatch.setattr(daemon, "SOCKET_LIMIT", 0)
    prepared = daemon.prepare(somewhere / "hypervisor")
    assert prepared.link is not None and prepared.link.readlink() == prepared.folder
    for _ in range(2):  # the second time there is nothing to do
        prepared.release()
        assert not prepared.link.is_symlink()
    assert prepared.folder.is_dir()


def test_short_names_of_daemons_that_are_gone_are_cleared_at_the_next_start(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "SOCKET_LIMIT", 0)
    killed, running = (daemon.prepare(somewhere / name) for name in ("killed", "running"))
    killed.folder.rename(somewhere / "away")
    (somewhere / "lp-notes").write_text("no link, and not ours to remove")
    daemon.prepare(somewhere / "next")
    assert killed.link is not None and not killed.link.is_symlink()
    assert running.link is not None and running.link.exists()
    assert (somewhere / "lp-notes").exists()


def test_somebody_elses_link_in_the_way(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "SOCKET_LIMIT", 0)
    link = daemon._short_name(somewhere / "hypervisor")
    link.unlink()
    link.symlink_to("/etc")
    with pytest.raises(daemon.DaemonError, match="in the way"):
        daemon.prepare(somewhere / "hypervisor")


@as_root
def test_a_folder_where_the_account_cannot_follow(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "_account", lambda: pwd.getpwnam("nobody"))
    let_everybody_into(somewhere)
    (somewhere / "private").mkdir(mode=0o700)
    prepared = daemon.prepare(somewhere / "private/data/hypervisor")
    assert prepared.moved
    assert prepared.folder.parent == somewhere / "elsewhere"
    assert prepared.folder.stat().st_uid == pwd.getpwnam("nobody").pw_uid
    assert prepared.argv[-3:-1] == ["--user", "nobody"]
    assert prepared == daemon.prepare(somewhere / "private/data/hypervisor")


@as_root
def test_who_may_enter(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    inside = tmp_path / "a/b"
    inside.mkdir(parents=True)
    let_everybody_into(tmp_path)
    assert daemon._may_enter(nobody, inside)
    (tmp_path / "a").chmod(0o700)
    assert not daemon._may_enter(nobody, inside)
    os.chown(tmp_path / "a", nobody.pw_uid, 0)
    assert daemon._may_enter(nobody, inside)
    assert daemon._may_enter(nobody, inside / "not/yet/there")


def test_libvirt_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(daemon.shutil, "which", lambda *_args, **_more: None)
    with pytest.raises(daemon.DaemonError, match="libvirtd is not installed"):
        daemon.prepare(tmp_path / "hypervisor")


# -- the reaper ----------------------------------------------------------------------------


@pytest.fixture
def under_the_reaper() -> Iterator[Callable[[str], "subprocess.Popen[bytes]"]]:
    """Starts a shell script under it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(script: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen([sys.executable, "-I", reaper.__file__, "/bin/sh", "-c", script], start_new_session=True, stderr=subprocess.DEVNULL)
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def children(process: "subprocess.Popen[bytes]") -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_it_ends_as_the_daemon_ends(under_the_reaper: Callable[[str], "subprocess.Popen[bytes]"]) -> None:
    assert under_the_reaper("exit 3").wait(10) == 3


def test_sigterm_goes_to_the_daemon_and_is_no_failure(under_the_reaper: Callable[[str], "subprocess.Popen[bytes]"]) -> None:
    process = under_the_reaper("exec sleep 1000")
    until(lambda: children(process), 10, "the daemon runs")
    process.terminate()
    assert process.wait(10) == 0


def test_ctrl_c_is_not_for_it(under_the_reaper: Callable[[str], "subprocess.Popen[bytes]"], tmp_path: Path) -> None:
    process = under_the_reaper(f"touch {tmp_path}/there; exec sleep 1000")
    until((tmp_path / "there").exists, 10, "the daemon runs")
    process.send_signal(signal.SIGINT)
    process.terminate()
    assert process.wait(10) == 0  # by the second signal, not the first


def test_a_killed_daemon_is_started_again_and_the_machines_stay(under_the_reaper: Callable[[str], "subprocess.Popen[bytes]"], tmp_path: Path) -> None:
    # The script stands for libvirtd; it detaches a process as QEMU detaches itself.
    process = under_the_reaper(f"echo $$ >> {tmp_path}/pids; setsid sleep 1000 & echo $! >> {tmp_path}/machines; exec sleep 1001")

    def started() -> list[int]:
        return [int(pid) for pid in (tmp_path / "pids").read_text().split()] if (tmp_path / "pids").exists() else []

    first = until(started, 10, "the daemon runs")[0]
    machine = int(until(lambda: (tmp_path / "machines").exists() and (tmp_path / "machines").read_text().split(), 10, "a machine runs")[0])
    os.kill(first, signal.SIGKILL)
    until(lambda: len(started()) == 2, 10, "the daemon runs again")
    until(lambda: machine in children(process), 10, "the machine was adopted")
    os.kill(machine, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{machine}").exists(), 5, "the dead machine was collected")
    for pid in (tmp_path / "machines").read_text().split()[1:]:
        os.kill(int(pid), signal.SIGKILL)


@as_root
def test_it_gives_up_root_for_the_account(under_the_reaper: Callable[[str], "subprocess.Popen[bytes]"], tmp_path: Path) -> None:
    command = [sys.executable, "-I", reaper.__file__, "--user", "nobody", "/bin/sh", "-c", "id -u; id -ru"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == [str(pwd.getpwnam("nobody").pw_uid)] * 2
