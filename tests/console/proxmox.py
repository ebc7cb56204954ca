"""A machine and a container of the portal's on a fake Proxmox VE cluster, both running."""

from itertools import count

from machines.lifecycle import State
from machines.providers.proxmox.label import describe
from machines.services import gateway
from tests.factories import make_cluster, make_machine, make_template

VM, CONTAINER = 100001, 100002
_numbers = count(1)


def populate(fake):
    fake.control.add_vm(VM, "web", node="pve1", pool=fake.pool, status="running", config={"serial0": "socket"})
    fake.control.add_ct(CONTAINER, "box", node="pve1", pool=fake.pool, status="running")


def make_pve(fake):
    # A name of its own: providers are kept by it, and know for a moment what the last test's machine was.
    return make_cluster(f"pve{next(_numbers)}", kind="proxmox", config=fake.config(), secret=fake.token_secret)


def make_vm(fake, cluster, owner):
    return _made(
        fake, VM, make_machine("web", owner=owner, ref=str(VM), state=State.RUNNING, template=make_template(cluster, ref="9000"), ssh_private_key="key")
    )


def make_container(fake, cluster, owner):
    """Of a template in which neither user nor key can be set."""
    template = make_template(cluster, ref="9100", kind="container", seeded=False)
    return _made(fake, CONTAINER, make_machine("box", owner=owner, ref=str(CONTAINER), state=State.RUNNING, template=template))


def _made(fake, vmid, row):
    fake.control.change_guest(vmid, config={"description": describe(gateway.identity(row))})
    return row
