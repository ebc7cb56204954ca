"""The script that gives a cloned container host keys of its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "proxmox" / "first-boot.sh"
pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")


def test_every_clone_makes_keys_of_its_own_once(tmp_path):
    def run(root, *arguments):
        subprocess.run(["sh", SCRIPT, *arguments], env={**os.environ, "LABPORTAL_ROOT": str(root)}, check=True, capture_output=True, timeout=60)

    def secrets(root):
        return {path.name: path.read_text() for path in [*(root / "etc/ssh").glob("*_key"), root / "etc/machine-id"]}

    template, clones = tmp_path / "template", [tmp_path / "a", tmp_path / "b"]
    (template / "etc/ssh").mkdir(parents=True)
    (template / "etc/systemd/system").mkdir(parents=True)
    (template / "etc/ssh/ssh_host_ed25519_key").write_text("the template's")
    run(template, "--install")
    assert secrets(template) == {"machine-id": ""}
    for clone in clones:
        shutil.copytree(template, clone, symlinks=True)
        run(clone)
    first, second = map(secrets, clones)
    assert len(first) > 1 and first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)
    run(clones[0])
    assert secrets(clones[0]) == first
