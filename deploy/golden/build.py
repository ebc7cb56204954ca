#!/usr/bin/env python3
"""Build the golden image: a small Linux guest that boots in seconds, from Debian's packages.

    python deploy/golden/build.py --out golden.qcow2 --cache ~/.cache/labportal

Needs no root. Packages are fetched with apt-get and unpacked; nothing is installed here. Built
once: while this folder and the distribution stay the same, a second call changes nothing.
`--rebuild` takes newer packages.
"""

import argparse
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from disk import make_disk
from guest_tree import GuestTree
from packages import GUEST, TOOLS, BuildError, fetch, kernel_packages, unpack, with_libraries

HERE = Path(__file__).parent
SIZE_MIB = 1024  # of the disk as the guest sees it; the file holds only what is used


def inputs_digest() -> str:
    """A hash of all the image depends on: this folder, the distribution, the size."""
    digest = hashlib.sha256()
    for path in sorted(HERE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(HERE)} {path.stat().st_mode & 0o111}\n".encode() + path.read_bytes())
    digest.update(Path("/etc/os-release").read_bytes() + os.environ.get("APT_CONFIG", "").encode())
    return digest.hexdigest()


def build(out: Path, cache: Path, *, rebuild: bool = False) -> bool:
    """Make `out` unless it is there already. Returns whether it was made. Raises BuildError."""
    if platform.machine() != "x86_64":
        raise BuildError("The golden image is for x86-64 only.")
    stamp = out.with_name(out.name + ".inputs")
    digest = inputs_digest()
    if not rebuild and out.exists() and stamp.exists() and stamp.read_text() == digest:
        return False
    kept = cache / f"golden-{digest[:16]}.qcow2"
    if rebuild or not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="golden-", dir=cache) as folder:
            work = Path(folder)
            say("Fetching packages")
            packages = with_libraries([*GUEST, *TOOLS]) + kernel_packages()
            unpack(fetch(packages, cache / "packages"), work / "source")
            say("Putting the guest together")
            tree = GuestTree(work / "source", work / "root")
            tree.assemble()
            say("Writing the disk")
            make_disk(tree, work / "golden.qcow2", SIZE_MIB, work)
            (work / "golden.qcow2").rename(kept)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".part")
    shutil.copyfile(kept, partial)
    partial.rename(out)
    stamp.write_text(digest)
    return True


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the image to write (qcow2)")
    parser.add_argument("--cache", type=Path, required=True, help="a folder that keeps packages and built images")
    parser.add_argument("--rebuild", action="store_true", help="build again, with the packages of today")
    options = parser.parse_args()
    os.umask(0o022)  # the guest's files get their modes from what is written here
    try:
        made = build(options.out, options.cache, rebuild=options.rebuild)
    except BuildError as error:
        sys.stderr.write(f"The golden image could not be built. {error}\n")
        return 1
    say(f"{options.out}: {'built' if made else 'up to date'}, {options.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
