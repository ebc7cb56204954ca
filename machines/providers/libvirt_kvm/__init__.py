"""Clusters driven through libvirt: KVM where it works, QEMU's emulation where it does not."""

try:
    import libvirt  # noqa: F401 - only to say in words that it is missing
except ImportError as error:
    raise ImportError("libvirt-python is not installed (requirements/libvirt.txt)") from error

from .provider import LibvirtProvider

__all__ = ["LibvirtProvider"]
