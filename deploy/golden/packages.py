"""Debian packages, fetched and unpacked without installing any of them."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

# In the guest.
GUEST = ["busybox-static", "bash", "openssh-server", "openssh-client", "qemu-guest-agent", "opendoas", "libpam-modules", "e2fsprogs", "ncurses-base"]
# Run or read while building: the boot loader, the keyboard layouts, zstd for Ubuntu's kernel modules.
TOOLS = ["grub-common", "grub-pc-bin", "kbd", "console-setup", "xkb-data", "zstd"]
# What a distribution calls its smallest kernel for virtual machines.
KERNELS = ["linux-image-cloud-amd64", "linux-image-virtual"]


class BuildError(Exception):
    """The image cannot be built; the sentence says why and what to do."""


def run(*argv: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None, stdin: bytes | None = None) -> str:
    """Run a command and give its output. Raises BuildError with what it said."""
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # mkfs and friends are not in everybody's PATH
    program = shutil.which(str(argv[0]), path=search)
    if program is None:
        raise BuildError(f"{argv[0]} is not installed.")
    done = subprocess.run([program, *map(str, argv[1:])], cwd=cwd, env={**os.environ, "LC_ALL": "C", **(env or {})}, input=stdin, capture_output=True)
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise BuildError(f"{argv[0]} failed: {said[-600:]}")
    return done.stdout.decode(errors="replace")


def kernel_packages() -> list[str]:
    """The packages with the image and the modules behind this distribution's kernel name."""
    for name in KERNELS:
        try:
            found = depends([name])
        except BuildError:  # apt-cache fails where it knows no package of the name
            continue
        images = [package for package in found.get(name, []) if re.match(r"linux-image-\d", package)]
        if images:
            modules = [package for package in found.get(images[0], []) if re.match(r"linux-modules-\d", package)]
            return [images[0], *modules]
    raise BuildError("apt knows no kernel package for virtual machines. Run `apt-get update` as root first.")


def with_libraries(packages: Iterable[str]) -> list[str]:
    """`packages` and the libraries under them. Everything else a package depends on (debconf, init scripts) is not needed to run its programs."""
    roots = list(packages)
    graph = depends(roots)
    found, todo = set(roots), list(roots)
    while todo:
        for package in graph.get(todo.pop(), []):
            if package not in found and re.match(r"z?lib(?!pam-runtime)", package):
                found.add(package)
                todo.append(package)
    return sorted(found)


def depends(packages: Iterable[str]) -> dict[str, list[str]]:
    """What each package, and each one under it, depends on. Of alternatives the first that exists."""
    graph: dict[str, list[str]] = {}
    chosen = True
    package = ""
    text = run("apt-cache", "depends", "--recurse", "--important", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", *packages)
    for line in text.splitlines():
        if not line.startswith(" "):
            package = line.strip()
            graph[package] = []
            chosen = False
        elif "Depends:" in line:
            name = line.split("Depends:")[1].strip().removesuffix(":any")
            if not chosen and not name.startswith("<"):
                graph[package].append(name)
            # A bar before the word says that the next line is an alternative to this one.
            chosen = (chosen or not name.startswith("<")) and line.lstrip().startswith("|")
    return graph


def fetch(packages: Iterable[str], cache: Path) -> list[Path]:
    """The .deb files, from the cache where they are there with the right hash."""
    cache.mkdir(parents=True, exist_ok=True)
    try:
        listing = run("apt-get", "download", "--print-uris", *packages)
    except BuildError as error:
        raise BuildError(f"{error} The package lists may be missing: run `apt-get update` as root first.") from error
    files, missing = [], []
    for line in listing.splitlines():
        match = re.match(r"'[^']+' (?P<file>\S+) \d+ (?P<kind>SHA256|SHA512):(?P<digest>[0-9a-f]+)$", line)
        if match is None:
            raise BuildError(f"apt-get says something unexpected of a package: {line}")
        deb = cache / match["file"]
        if not deb.exists() or hashlib.new(match["kind"], deb.read_bytes()).hexdigest() != match["digest"]:
            missing.append(_package_version(match["file"]))
        files.append(deb)
    if missing:
        run("apt-get", "download", *missing, cwd=cache)
    return files


def _package_version(file_name: str) -> str:
    package, version, _ = file_name.split("_")
    return f"{package}={version.replace('%3a', ':')}"


def unpack(files: Iterable[Path], into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    # One tree with /usr merged, whatever the package thinks: later lookups have one place to look at.
    for name in ("bin", "sbin", "lib", "lib64"):
        (into / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (into / name).is_symlink():
            (into / name).symlink_to(f"usr/{name}")
    for deb in files:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as package:
            unpacking = subprocess.run(["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", into], stdin=package.stdout)
        if package.returncode or unpacking.returncode:
            raise BuildError(f"{deb} could not be unpacked.")
