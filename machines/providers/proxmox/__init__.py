"""Proxmox VE."""

from .provider import ProxmoxProvider

__all__ = ["ProxmoxProvider"]
