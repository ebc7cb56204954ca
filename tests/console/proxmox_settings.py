"""The product's settings, with Proxmox VE clusters that have consoles alone."""

from labportal.settings import *
from machines.providers import registry

registry.KINDS["proxmox"] = "tests.console.proxmox:Consoles"
