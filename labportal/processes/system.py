"""The system's packages and Python's: what is missing, and putting it there."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from .progress import Progress, Step, StepFailed

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"

# What real machines need, by the names of Debian and Ubuntu.
HYPERVISOR_PACKAGES = (
    "qemu-system-x86",  # runs the machines
    "qemu-utils",  # qemu-img: clones
    "libvirt-daemon",  # libvirtd; the portal runs one of its own, with all its state in the data folder
    "libvirt-daemon-driver-qemu",
    "libvirt-dev",  # libvirt-python has no wheels: headers, compiler
    "pkg-config",
    "gcc",
    "libc6-dev",
    "e2fsprogs",  # the golden image's file system
)
# python-ldap has no wheels either. libldap-common names the authorities that this computer trusts.
DIRECTORY_PACKAGES = ("libldap-dev", "libldap-common", "libsasl2-dev", "ca-certificates", "gcc", "libc6-dev")
# What of requirements/ is installed only where a setting of this name, or with this beginning, asks for it.
OPTIONAL_LOCKS = {"ldap": "LDAP_URIS", "saml": "SAML_IDP_"}
# A package of its own from Debian 13 on; before, and in Ubuntu 24.04, libvirt-daemon brings it.
STORAGE_DRIVER = Path("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_storage.so")
STORAGE_PACKAGE = "libvirt-daemon-driver-storage"
APT_LISTS = Path("/var/lib/apt/lists")


class CannotInstall(Exception):
    """Packages are missing and cannot be installed from here; the message says why."""


def missing_for_hypervisor() -> list[str]:
    """Packages that real machines need and that are not installed. Raises CannotInstall where there can be none."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise CannotInstall(f"real machines need Linux on x86_64, and this is {platform.system()} on {platform.machine()}")
    if not shutil.which("dpkg-query") or not shutil.which("apt-get"):
        raise CannotInstall("QEMU, libvirt and the golden image are taken from Debian's or Ubuntu's packages, and this is neither")
    missing = missing_packages(HYPERVISOR_PACKAGES) + missing_for_python(headers=True)
    return missing or ([] if STORAGE_DRIVER.exists() else [STORAGE_PACKAGE])


def install_hypervisor(progress: Progress, log: Path, *, ask: bool = True) -> None:
    """All that real machines need. Raises CannotInstall."""
    for _ in range(2):  # what the first round brings tells what the second has to
        install_packages(missing_for_hypervisor(), progress, log, ask=ask, lists=True)


def missing_for_python(*, headers: bool) -> list[str]:
    missing = [] if find_spec("ensurepip") else ["python3-venv"]
    if headers and not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing.append("python3-dev")
    return missing


def optional_locks(variables: Iterable[str]) -> list[str]:
    """The files of requirements/ that these settings ask for beside the usual ones."""
    names = list(variables)
    return [lock for lock, beginning in OPTIONAL_LOCKS.items() if any(name.startswith(beginning) for name in names)]


def missing_for_directory() -> list[str]:
    """Packages that python-ldap needs to be compiled and that are not installed; none where that was done before."""
    if is_installed("ldap") or not shutil.which("dpkg-query"):
        return []
    return missing_packages(DIRECTORY_PACKAGES) + missing_for_python(headers=True)


def missing_packages(wanted: Sequence[str]) -> list[str]:
    answer = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *wanted], capture_output=True, text=True)
    installed = {line.split()[1] for line in answer.stdout.splitlines() if line.startswith("installed ")}
    return [package for package in wanted if package not in installed]


def install_packages(packages: Sequence[str], progress: Progress, log: Path, *, ask: bool = True, lists: bool = False) -> None:
    """By apt, as root or through sudo. `lists`: apt must know packages too, as the golden image is made
    of some; container images come without its lists. Raises CannotInstall."""
    if not packages and (not lists or any(APT_LISTS.glob("*_Packages*"))):
        return
    names = " ".join(packages) or "apt's package lists"
    if not shutil.which("apt-get"):
        raise CannotInstall(f"{names} is missing and there is no apt to install it with")
    prefix = [] if os.geteuid() == 0 else become_root(packages, names, ask=ask)
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]
    try:
        with progress.step(f"System packages: {names}") as step:
            step.run([*apt, "update"], log=log, failed="apt-get update failed.")
            if packages:
                step.run([*apt, "install", "--no-install-recommends", *packages], log=log, failed="apt-get install failed.")
    except StepFailed as failure:
        progress.say(str(failure))
        raise CannotInstall(f"{names} could not be installed") from None


def become_root(packages: Sequence[str], names: str, *, ask: bool) -> list[str]:
    """How to run a command as root: sudo, its password asked for once. Raises CannotInstall."""
    by_hand = "as root: apt-get update && apt-get install " + " ".join(packages)
    if not shutil.which("sudo"):
        raise CannotInstall(f"{names} is missing, this is not root and there is no sudo; {by_hand}")
    if subprocess.run(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    if not sys.stdin.isatty():
        raise CannotInstall(f"{names} is missing and sudo wants a password; {by_hand}")
    if ask and input(f"These system packages are missing: {names}\nInstall them with sudo? [Y/n] ").strip().lower() not in ("", "y", "yes"):
        raise CannotInstall(f"{names} is missing; {by_hand}")
    if subprocess.run(["sudo", "-v"]).returncode:
        raise CannotInstall(f"{names} is missing and sudo refused; {by_hand}")
    return ["sudo", "-n"]


def install_environment(step: Step, log: Path, *locks: str) -> None:
    """The virtual environment with what these files of requirements/ lock. Raises StepFailed."""
    if not PYTHON.exists() or subprocess.run([PYTHON, "-c", "import pip"], capture_output=True).returncode:
        step.detail = "making .venv"
        step.run([sys.executable, "-m", "venv", "--clear", VENV], log=log, failed="The virtual environment could not be made.")
    for name in locks:
        if is_installed(name):
            continue
        lock = ROOT / "requirements" / f"{name}.txt"
        pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--require-hashes"]
        step.run([*pip, "-r", lock], log=log, failed=f"The packages of {lock.relative_to(ROOT)} could not be installed.")
        _stamp(name).write_text(_digest(name))
        step.note = "installed"


def is_installed(lock: str) -> bool:
    """Whether the virtual environment has what this file of requirements/ locks."""
    return _stamp(lock).exists() and _stamp(lock).read_text() == _digest(lock)


def _stamp(lock: str) -> Path:
    return VENV / f"{lock}.sha256"


def _digest(lock: str) -> str:
    return hashlib.sha256((ROOT / "requirements" / f"{lock}.txt").read_bytes()).hexdigest()
