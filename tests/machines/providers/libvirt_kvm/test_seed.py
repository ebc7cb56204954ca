"""The seed: what it says, and that others can read it."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines.providers.errors import InvalidSpec
from machines.providers.libvirt_kvm import seed
from machines.providers.types import Seed

READER = Path(__file__).resolve().parents[4] / "deploy/golden/guest/usr/sbin/seed.awk"
PLAIN = Seed(hostname="web-07", username="student", password="secret", ssh_keys=("ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"), keyboard="de")
SECTOR = 2048

printable = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=40)


def files(image: bytes, descriptor: int, encoding: str) -> dict[str, bytes]:
    """What the root folder of this volume descriptor holds."""
    start = descriptor * SECTOR
    assert image[start + 1 : start + 6] == b"CD001"
    root, length = struct.unpack_from("<I4xI", image, start + 156 + 2)
    found, position = {}, root * SECTOR
    while size := image[position]:
        sector, length = struct.unpack_from("<I4xI", image, position + 2)
        name = image[position + 33 : position + 33 + image[position + 32]]
        if name not in (b"\0", b"\1"):
            found[name.decode(encoding)] = image[sector * SECTOR : sector * SECTOR + length]
        position += size
    return found


def understood(text: str) -> dict[str, list[str]]:
    """What the golden image's own reader makes of it."""
    awk = shutil.which("awk")
    if awk is None:
        pytest.skip("no awk here")
    told: dict[str, list[str]] = {}
    for line in subprocess.run([awk, "-f", READER], input=text, capture_output=True, text=True, check=True).stdout.splitlines():
        name, value = line.split("\t", 1)
        told.setdefault(name, []).append(value)
    return told


def test_the_image_is_found_by_its_name_and_holds_both_files() -> None:
    image = seed.iso(PLAIN, "instance-1")
    assert len(image) % SECTOR == 0
    assert image[16 * SECTOR + 40 : 16 * SECTOR + 46] == b"cidata"
    plain, joliet = files(image, 16, "ascii"), files(image, 17, "utf-16-be")
    assert set(plain) == {"META-DATA.;1", "USER-DATA.;1"}
    assert set(joliet) == {"meta-data;1", "user-data;1"}
    assert list(plain.values()) == list(joliet.values())
    assert plain["META-DATA.;1"] == b"instance-id: instance-1\nlocal-hostname: web-07\n"
    assert plain["USER-DATA.;1"].startswith(b"#cloud-config\n")


def test_what_the_guest_is_told() -> None:
    assert understood(seed.user_data(PLAIN)) == {
        "hostname": ["web-07"],
        "locale": ["en_US.UTF-8"],
        "keyboard": ["de"],
        "user": ["student"],
        "password": ["secret"],
        "key": list(PLAIN.ssh_keys),
    }


@given(password=printable)
def test_any_password_arrives_as_it_is(password: str) -> None:
    assert understood(seed.user_data(Seed("host", "student", password)))["password"] == [password]


@pytest.mark.parametrize(
    "wrong",
    [
        Seed("web\nruncmd: [evil]", "student", "x"),
        Seed("-web", "student", "x"),
        Seed("web", "Root!", "x"),
        Seed("web", "", "x"),
        Seed("web", "student", "x\ny"),
        Seed("web", "student", "x", ssh_keys=("ssh-ed25519 AAAA\nssh-ed25519 BBBB",)),
        Seed("web", "student", "x", keyboard="de\0"),
    ],
)
def test_what_no_guest_could_take_is_refused(wrong: Seed) -> None:
    with pytest.raises(InvalidSpec) as raised:
        seed.iso(wrong, "instance-1")
    assert raised.value.message


@pytest.mark.parametrize(("chosen", "lines"), [("de", ['  layout: "de"']), ("ch-de", ['  layout: "ch"']), ("ch-fr", ['  layout: "ch"', '  variant: "fr"'])])
def test_a_keyboard_is_told_by_its_layout_and_variant(chosen, lines):
    told = seed.user_data(Seed(hostname="web-01", username="student", password="secret", keyboard=chosen)).splitlines()
    start = told.index("keyboard:") + 1
    assert told[start : start + len(lines)] == lines
    assert not told[start + len(lines)].startswith("  ")
