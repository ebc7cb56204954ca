"""What is particular to QEMU machines: their drives, and the seed that cloud-init reads. Pure."""

import re
from typing import Any
from urllib.parse import quote, unquote

from machines.providers.types import MachineSpec, Seed

from .configs import Config, common_changes, options
from .resources import number

_DRIVE = re.compile(r"(?:ide|sata|scsi|virtio)\d+")
_ORDER = ("scsi", "virtio", "sata", "ide")


def drives(config: Config) -> dict[str, str]:
    """All with a volume, CD-ROMs and the cloud-init drive too, and what else has to move with a machine."""
    held = {key: str(value) for key, value in config.items() if _DRIVE.fullmatch(key) or key in ("efidisk0", "tpmstate0")}
    return {key: value for key, value in held.items() if options(value).get("", "none") != "none"}


def disk(config: Config) -> str | None:
    """The key of the disk the machine boots from."""
    disks = [key for key, value in drives(config).items() if _DRIVE.fullmatch(key) and options(value).get("media") != "cdrom" and "cloudinit" not in value]
    boot = options(config.get("boot", "")).get("order", "").split(";")
    first = [key for key in (*boot, str(config.get("bootdisk", ""))) if key in disks]
    return first[0] if first else min(disks, key=lambda key: (_ORDER.index(key.rstrip("0123456789")), key), default=None)


def has_cloud_init(config: Config) -> bool:
    return any("cloudinit" in value for value in drives(config).values())


def has_agent(config: Config) -> bool:
    """Is it said to have one? Whether it answers is another thing."""
    agent = options(config.get("agent", "0"))
    return bool(number(agent.get("enabled", agent.get("", "0"))))


def changes(config: Config, spec: MachineSpec, *, name: str, bridge: str, with_tags: bool, with_password: bool) -> dict[str, Any]:
    """What has to be set so that the machine is as `spec` says. The password cannot be read back to be compared."""
    wanted = without_seed(config, spec, name=name, bridge=bridge, with_tags=with_tags)
    if spec.seed is not None and has_cloud_init(config):
        wanted |= _seed(config, spec.seed, with_password=with_password)
    return wanted


def without_seed(config: Config, spec: MachineSpec, *, name: str, bridge: str, with_tags: bool) -> dict[str, Any]:
    wanted = common_changes(config, spec, name_key="name", name=name, bridge=bridge, with_tags=with_tags)
    if (number(config.get("sockets")) or 1) != 1:
        wanted["sockets"] = 1
    if (number(config.get("balloon")) or 0) > spec.memory_mib:
        wanted["balloon"] = spec.memory_mib
    return wanted


def _seed(config: Config, seed: Seed, *, with_password: bool) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    if config.get("ciuser") != seed.username:
        wanted["ciuser"] = seed.username
    if with_password or not config.get("cipassword"):
        wanted["cipassword"] = seed.password
    kept = [line.strip() for line in unquote(str(config.get("sshkeys", ""))).splitlines() if line.strip()]
    if seed.ssh_keys and kept != list(seed.ssh_keys):
        # Proxmox VE wants the value itself percent-encoded, below the encoding of the form.
        wanted["sshkeys"] = quote("\n".join(seed.ssh_keys), safe="")
    if not config.get("ipconfig0"):
        wanted["ipconfig0"] = "ip=dhcp"
    return wanted
