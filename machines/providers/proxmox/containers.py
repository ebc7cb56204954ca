"""What is particular to containers (LXC): made from an OS template they can be given credentials, cloned they keep the template's. Pure."""

import re
from typing import Any

from machines.providers.errors import InvalidSpec
from machines.providers.types import MachineSpec

from .configs import Config, common_changes

BRIDGE = "vmbr0"
DISK_GIB = 8
SHORTEST_PASSWORD = 5
_OS_TEMPLATE = re.compile(r"[A-Za-z][\w.-]*:vztmpl/[\w.+~-]+")


def is_os_template(ref: str) -> bool:
    return bool(_OS_TEMPLATE.fullmatch(ref))


def mounts(config: Config) -> dict[str, str]:
    return {key: str(value) for key, value in config.items() if re.fullmatch(r"rootfs|mp\d+", key)}


def changes(config: Config, spec: MachineSpec, *, name: str, bridge: str, with_tags: bool) -> dict[str, Any]:
    return common_changes(config, spec, name_key="hostname", name=name, bridge=bridge, with_tags=with_tags)


def creation(spec: MachineSpec, *, name: str, storage: str, bridge: str) -> dict[str, Any]:
    """Parameters of a new container from an OS template; its account is root. Raises InvalidSpec."""
    given: dict[str, Any] = {
        "ostemplate": spec.template,
        "hostname": name,
        "cores": spec.cores,
        "memory": spec.memory_mib,
        "rootfs": f"{storage}:{spec.disk_gib or DISK_GIB}",
        "net0": f"name=eth0,bridge={bridge or BRIDGE},ip=dhcp",
        "unprivileged": 1,
        "onboot": 0,
    }
    if spec.seed is not None:
        if len(spec.seed.password) < SHORTEST_PASSWORD:
            raise InvalidSpec("password", message=f"A container's password has {SHORTEST_PASSWORD} characters at least.")
        given["password"] = spec.seed.password
        if spec.seed.ssh_keys:
            given["ssh-public-keys"] = "\n".join(spec.seed.ssh_keys)
    return given
