"""Finding out whether KVM works."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from machines.providers.libvirt_kvm import kvm

needs_qemu = pytest.mark.skipif(shutil.which(kvm.EMULATOR) is None, reason="no QEMU here")


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    kvm.usable.cache_clear()
    yield
    kvm.usable.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu vmx sse", True),
        ("flags\t\t: fpu svm", True),
        ("flags\t\t: fpu sse", False),
        ("flags : vmx_like", False),
        ("Features : fp asimd", False),
        ("", False),
    ],
)
def test_the_processors_word(text: str, expected: bool) -> None:
    assert kvm.has_extensions(f"processor\t: 0\n{text}\n") is expected


def test_no_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kvm, "DEVICE", tmp_path / "kvm")
    assert kvm.usable() == (False, f"{tmp_path}/kvm cannot be opened")


def test_a_device_without_a_processor_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device, cpuinfo = tmp_path / "kvm", tmp_path / "cpuinfo"
    device.touch()
    cpuinfo.write_text("flags : fpu\n")
    monkeypatch.setattr(kvm, "DEVICE", device)
    monkeypatch.setattr(kvm, "CPUINFO", cpuinfo)
    assert kvm.usable() == (False, "the processor has neither vmx nor svm")


@pytest.mark.parametrize("works", [True, False])
def test_the_last_word_is_a_guests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, works: bool) -> None:
    device, cpuinfo = tmp_path / "kvm", tmp_path / "cpuinfo"
    device.touch()
    cpuinfo.write_text("flags : vmx\n")
    monkeypatch.setattr(kvm, "DEVICE", device)
    monkeypatch.setattr(kvm, "CPUINFO", cpuinfo)
    monkeypatch.setattr(kvm, "runs", lambda accelerator, _limit: accelerator == "kvm" and works)
    assert kvm.usable()[0] is works


@needs_qemu
def test_the_boot_sector_runs_to_its_end_where_a_guest_can() -> None:
    assert kvm.runs("tcg", 20)


@needs_qemu
def test_a_guest_that_does_not_end_in_time() -> None:
    assert not kvm.runs("tcg", 0.001)


def test_no_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm, "EMULATOR", "no-such-emulator")
    assert not kvm.runs("tcg", 1)
