"""The kinds of hypervisor this installation can drive."""

from importlib import import_module

from .base import Provider
from .errors import Unsupported

# Imported on demand: an SDK that is not installed costs only its own kind.
KINDS: dict[str, str] = {
    "proxmox": "machines.providers.proxmox:ProxmoxProvider",
    "libvirt": "machines.providers.libvirt_kvm:LibvirtProvider",
    "simulator": "machines.providers.simulator:SimulatorProvider",
}


def provider_class(kind: str) -> type[Provider]:
    """Raises Unsupported where the kind is unknown or its SDK is not installed."""
    try:
        module, name = KINDS[kind].split(":")
        found = getattr(import_module(module), name)
    except KeyError:
        raise Unsupported(f"unknown kind of cluster: {kind}") from None
    except ImportError as error:
        raise Unsupported(f"{kind}: {error}", message=f"Support for {kind} is not installed.") from error
    assert isinstance(found, type) and issubclass(found, Provider)
    return found
