"""Whether KVM truly works here.

/dev/kvm may be there and even make virtual machines that never get anywhere (nested
virtualisation switched off, kvm_pvm). libvirt and QEMU believe it; a guest that is started with
it burns a core and never boots. So a guest of 512 bytes is run, with a time limit.
"""

import os
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

DEVICE = Path("/dev/kvm")
CPUINFO = Path("/proc/cpuinfo")
EMULATOR = "qemu-system-x86_64"
# mov al, 0x31; out 0xf4, al; hlt; jmp to hlt. The debug device ends QEMU with (0x31 << 1) | 1.
_CODE = bytes((0xB0, 0x31, 0xE6, 0xF4, 0xF4, 0xEB, 0xFD))
_EXIT_STATUS = 0x31 << 1 | 1


@lru_cache(maxsize=1)
def usable(limit: float = 1.5) -> tuple[bool, str]:
    """Whether KVM works, and how that was found out, in words. Takes at most `limit` seconds, once per process."""
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return False, f"{DEVICE} cannot be opened"
    if not has_extensions(CPUINFO.read_text()):
        return False, "the processor has neither vmx nor svm"
    if runs("kvm", limit):
        return True, "a guest ran with it"
    return False, f"a guest did not finish within {limit:g} s with it"


def has_extensions(cpuinfo: str) -> bool:
    """Whether the text of /proc/cpuinfo names the processor's extensions for virtual machines."""
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    return not {"vmx", "svm"}.isdisjoint(flags.split())


def runs(accelerator: str, limit: float) -> bool:
    """Whether a boot sector runs to its end within `limit` seconds under `accelerator` (kvm, tcg)."""
    emulator = shutil.which(EMULATOR)
    if emulator is None:
        return False
    with tempfile.NamedTemporaryFile(prefix="labportal-kvm-", suffix=".img") as disk:
        disk.write(_CODE.ljust(510, b"\0") + b"\x55\xaa" + bytes(1440 * 1024 - 512))
        disk.flush()
        command = [emulator, "-M", f"pc,accel={accelerator}", "-m", "32", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        command += ["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-drive", f"file={disk.name},format=raw,if=ide,snapshot=on"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == _EXIT_STATUS
