"""A Proxmox VE cluster that does not exist: fakepve, put right where it differs from what real clusters do.

fakepve is under the AGPL. It is a development dependency only: this package is started as a process
of its own (`python -m tests.proxmox.fake`), and neither the portal nor the test process imports it.
"""
