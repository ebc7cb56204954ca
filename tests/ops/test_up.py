"""bin/up before anything starts: every reason not to start is one sentence, and nothing is left half done."""

import argparse
import ast
import errno
import fcntl
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from cryptography.fernet import Fernet

from labportal.processes.progress import Progress, StepFailed
from labportal.processes.system import CannotInstall

ROOT = Path(__file__).resolve().parent.parent.parent


def load(name: str) -> ModuleType:
    loader = SourceFileLoader(f"bin_{name}", str(ROOT / "bin" / name))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def up() -> ModuleType:
    return load("up")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "bin" / "up"), *arguments], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def choice(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**{"simulator": False, "yes": True, "host": "127.0.0.1", "port": 8000, "no_demo": False} | given)


def refuses(answer: subprocess.CompletedProcess[str], words: str) -> None:
    assert answer.returncode == 1
    assert answer.stderr.startswith("labportal cannot start: ")
    assert answer.stderr.count("\n") == 1
    assert words in answer.stderr


# -- reasons not to start ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["up", "test"])
def test_an_old_python_reaches_the_sentence_that_says_so(name: str) -> None:
    tree = ast.parse((ROOT / "bin" / name).read_text(), feature_version=(3, 8))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    check = next(node for node in tree.body if isinstance(node, ast.If))
    assert "sys.version_info" in ast.unparse(check.test)
    assert [ast.unparse(node) for node in imports if node.lineno < check.lineno] == ["import sys"]


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refuses(run("--simulator", "--data", str(tmp_path), "--port", str(port)), f"port {port} is taken")


@pytest.mark.parametrize("where", [["--data", "data"], ["--check"]], ids=["a folder of one's own", "a passing one"])
def test_nothing_is_made_where_the_port_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refuses(run("--simulator", *where, "--port", str(port)), f"port {port} is taken")
    assert not list(tmp_path.iterdir())


def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    refuses(run("--simulator", "--data", str(tmp_path), "--host", "192.0.2.1", "--port", "8123"), "192.0.2.1 is no address of this computer")


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refuses(run("--simulator", "--data", str(tmp_path / "file" / "data")), "is not a folder that can be written to")


def test_a_folder_that_is_in_use(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refuses(run("--simulator", "--data", str(tmp_path)), "runs already with the data in")


def test_a_disk_that_is_nearly_full(up: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: argparse.Namespace(free=100))
    with pytest.raises(StepFailed, match="has less than 1 GiB left"):
        up.open_data(tmp_path)


def test_a_disk_that_fills_up_meanwhile(up: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "argv", ["up", "--simulator", "--data", str(tmp_path), "--port", str(up.free_port("127.0.0.1"))])
    monkeypatch.setattr(up, "install_environment", full)
    monkeypatch.setattr(os, "umask", lambda mask: mask)  # ours stays as it is for the tests after this one
    with pytest.raises(SystemExit, match=r"the disk that holds .* is full"):
        up.main()


# -- real or simulated -------------------------------------------------------------------------


@pytest.fixture
def no_hypervisor(up: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object, **more: object) -> None:
        raise CannotInstall("this is neither Debian nor Ubuntu")

    monkeypatch.setattr(up, "install_hypervisor", missing)


@pytest.fixture
def choose(up: ModuleType, tmp_path: Path) -> Callable[..., tuple[str, str]]:
    return lambda **given: up.choose_hypervisor(tmp_path, choice(**given), Progress())


def test_real_machines_where_all_is_there(up: ModuleType, choose: Callable[..., tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "install_hypervisor", lambda *arguments, **more: None)
    assert choose() == ("libvirt", "")


@pytest.mark.usefixtures("no_hypervisor")
def test_simulated_machines_where_there_can_be_no_real_ones_and_why(choose: Callable[..., tuple[str, str]]) -> None:
    assert choose() == ("simulator", "this is neither Debian nor Ubuntu")


@pytest.mark.usefixtures("no_hypervisor")
def test_a_folder_with_real_machines_is_never_started_simulated(up: ModuleType, choose: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    up.remember(tmp_path, "libvirt", "")
    with pytest.raises(StepFailed, match="belongs to real machines, and this is neither"):
        choose()
    with pytest.raises(StepFailed, match="belongs to real machines"):
        choose(simulator=True)


def test_a_folder_with_simulated_machines_stays_so_and_says_why(up: ModuleType, choose: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    up.remember(tmp_path, "simulator", "--simulator was given")
    kind, reason = choose()
    assert kind == "simulator"
    assert reason.startswith("--simulator was given when")


def test_without_root_and_sudo_the_simulator_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from labportal.processes import system

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda name, **more: None if name == "sudo" else f"/usr/bin/{name}")
    with pytest.raises(CannotInstall, match="apt-get install qemu-utils"):
        system.install_packages(["qemu-utils"], Progress(), tmp_path / "log")


# -- keys --------------------------------------------------------------------------------------


def test_keys_are_made_once_and_are_for_the_owner_alone(up: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "env"
    assert up.write_keys(path) == "made"
    first = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made = dict(line.split("=", 1) for line in first.splitlines() if not line.startswith("#"))
    assert set(made) == {"SECRET_KEY", "FIELD_KEYS", "PORTAL_ID"}
    Fernet(made["FIELD_KEYS"])
    assert up.write_keys(path) == "as before"
    assert path.read_text() == first


def test_two_folders_have_different_keys(up: ModuleType, tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        up.write_keys(tmp_path / name)
        texts.append((tmp_path / name).read_text().splitlines()[2:])
    assert not set(texts[0]) & set(texts[1])


def test_what_the_env_file_says_goes_before_what_bin_up_would_say(up: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SITE_URL", "ALLOWED_HOSTS", "DEMO"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "env").write_text("SITE_URL=https://labs.example.org\n")
    told = up.environment(tmp_path, choice(host="0.0.0.0", port=8000))
    assert "SITE_URL" not in told
    assert socket.gethostname() in told["ALLOWED_HOSTS"].split(",")
    assert told["DEMO"] == "true"
    assert "DEMO" not in up.environment(tmp_path, choice(no_demo=True))


def start(up: ModuleType, data: Path, **chosen: object) -> dict[str, str]:
    """What a start of bin/up leaves in the env file, as the settings read it."""
    up.write_keys(data / "env")
    up.write_last_start(data / "env", up.environment(data, choice(**chosen)))
    assert stat.S_IMODE((data / "env").stat().st_mode) == 0o600
    return dict(line.split("=", 1) for line in (data / "env").read_text().splitlines() if not line.startswith("#"))


def test_commands_beside_bin_up_have_its_data_and_address(up: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SITE_URL", raising=False)
    made = start(up, tmp_path, port=8123)
    assert (made["DATA_DIR"], made["SITE_URL"]) == (str(tmp_path), "http://localhost:8123")
    assert start(up, tmp_path, port=8124) == made | {"SITE_URL": "http://localhost:8124"}
    with (tmp_path / "env").open("a") as file:
        file.write("PORTAL_NAME=Labs\nSITE_URL=https://labs.example.org\n")
    own = start(up, tmp_path, port=8125)
    assert (own["PORTAL_NAME"], own["SITE_URL"]) == ("Labs", "https://labs.example.org")
    assert (tmp_path / "env").read_text().count("SITE_URL=") == 1
    said = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "shell", "-c", "from django.conf import settings; print(settings.DATA_DIR, settings.SITE_URL)"],
        env={"PATH": os.environ["PATH"], "LABPORTAL_ENV_FILE": str(tmp_path / "env")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said.stdout.split()[-2:] == [str(tmp_path), "https://labs.example.org"]


def test_an_env_file_made_before_gets_them_too(up: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("SECRET_KEY=kept\n")
    (tmp_path / "env").chmod(0o600)
    assert start(up, tmp_path)["SECRET_KEY"] == "kept"
    before = (tmp_path / "env").stat().st_ino
    assert start(up, tmp_path)["DATA_DIR"] == str(tmp_path)
    assert (tmp_path / "env").stat().st_ino == before  # nothing new to say


def test_what_a_directory_needs_is_installed_where_one_is_set(up: ModuleType, tmp_path: Path) -> None:
    assert up.optional_locks(up.written(tmp_path)) == []
    (tmp_path / "env").write_text("# LDAP_URIS=ldaps://a\nSITE_URL=https://labs.example.org\n")
    assert up.optional_locks(up.written(tmp_path)) == []
    (tmp_path / "env").write_text("LDAP_URIS=ldaps://ldap.example.org\n")
    assert up.optional_locks(up.written(tmp_path)) == ["ldap"]
    assert up.optional_locks(up.written(tmp_path) | {"SAML_IDP_ENTITY_ID"}) == ["ldap", "saml"]


def test_what_a_folder_began_with_is_remembered(up: ModuleType, tmp_path: Path) -> None:
    assert up.remembered(tmp_path) == {}
    up.remember(tmp_path, "libvirt", "")
    assert json.loads((tmp_path / "up.json").read_text())["hypervisor"] == "libvirt"
    assert up.remembered(tmp_path)["hypervisor"] == "libvirt"
