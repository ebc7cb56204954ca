"""Bad days of real machines: the worker, the daemon and the machines themselves are hurt while the portal runs."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tests.e2e.portal import RunningPortal, command_line, until
from tests.e2e.test_processes import MAKE, ON_THE_CLUSTER, POWER, SOON_RESUMED

pytestmark = [pytest.mark.guest]

# What somebody with virsh can do.
BEHIND_OUR_BACK = """
import libvirt
from machines.models import Cluster, Machine
connection = libvirt.open(Cluster.objects.get().config["uri"])
domain = connection.lookupByUUIDString(Machine.objects.get(name="{name}").ref)
{act}
"""
GIVE = """
from accounts.models import User
from accounts.services import ssh_keys
from machines.models import Machine
person = User.objects.create_user("ada")
ssh_keys.add(person, given="{key}")
Machine.objects.filter(name="{name}").update(owner=person)
"""
DELETE = "domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)"


@pytest.fixture(scope="module")
def portal() -> Iterator[RunningPortal]:
    portal = RunningPortal("--no-demo", settings=SOON_RESUMED)
    portal.start()
    yield portal
    portal.clear()


def are(portal: RunningPortal, state: str, *names: str) -> None:
    until(lambda: {name: portal.states().get(name) for name in names} == dict.fromkeys(names, state), 120, f"{names} are {state}")


def on_the_cluster(portal: RunningPortal, name: str) -> list[str]:
    return sorted(line for line in portal.shell(ON_THE_CLUSTER).splitlines() if line.startswith(name))


def make(portal: RunningPortal, name: str, count: int = 1) -> list[str]:
    portal.shell(MAKE.format(count=count, name=name))
    names = [f"{name}-{number}" for number in range(count)]
    are(portal, "stopped", *names)
    return names


def guests(portal: RunningPortal) -> list[int]:
    """The QEMU processes whose disks lie in the portal's folder."""
    everybody = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in everybody if command_line(pid).startswith("/usr/bin/qemu-system") and str(portal.data) in command_line(pid)]


def test_the_check_walks_the_main_job_on_a_real_guest() -> None:
    check = RunningPortal("--no-demo", "--check")
    try:
        check.launch()
        assert check.process is not None
        assert check.process.wait(400) == 0, check.report()
        assert "with real machines" in check.said().splitlines()[0]
        assert "answers on SSH  (SSH-2.0-OpenSSH" in check.said()
    finally:
        check.clear()


def test_a_worker_killed_in_the_middle_of_clones_leaves_one_machine_of_each(portal: RunningPortal) -> None:
    portal.shell(MAKE.format(count=8, name="clone"))
    until(lambda: portal.rows("SELECT 1 FROM machines_operation WHERE state = 'running'"), 30, "clones are under way")
    for pid in portal.processes("qcluster"):
        os.kill(pid, signal.SIGKILL)
    are(portal, "stopped", *(f"clone-{number}" for number in range(8)))
    assert on_the_cluster(portal, "clone-") == [f"clone-{number} off" for number in range(8)]


def test_a_machine_switched_off_behind_our_back_is_seen(portal: RunningPortal) -> None:
    (name,) = make(portal, "pulled")
    portal.shell(POWER.format(name="pulled-", verb="start"))
    are(portal, "running", name)
    portal.shell(BEHIND_OUR_BACK.format(name=name, act="domain.destroy()"))
    until(lambda: portal.states()[name] == "stopped", 10, "the page says it is off")
    portal.shell(POWER.format(name="pulled-", verb="start"))
    are(portal, "running", name)


def test_a_machine_deleted_behind_our_back_is_missing_and_can_be_made_again(portal: RunningPortal) -> None:
    (name,) = make(portal, "deleted")
    portal.shell(BEHIND_OUR_BACK.format(name=name, act=DELETE))
    are(portal, "missing", name)
    portal.shell(POWER.format(name="deleted-", verb="retry"))
    are(portal, "stopped", name)
    assert on_the_cluster(portal, "deleted-") == [f"{name} off"]


def test_a_daemon_that_is_killed_comes_back_and_its_machines_go_on(portal: RunningPortal) -> None:
    (name,) = make(portal, "daemon")
    portal.shell(POWER.format(name="daemon-", verb="start"))
    are(portal, "running", name)
    before = guests(portal)
    (daemon,) = [pid for pid in portal.processes("libvirtd") if "reaper" not in command_line(pid)]
    os.kill(daemon, signal.SIGKILL)
    (after,) = make(portal, "after")
    assert set(before) <= set(guests(portal))
    assert portal.states()[name] == "running"
    assert on_the_cluster(portal, "daemon-") == [f"{name} on"]
    portal.shell(POWER.format(name="daemon-", verb="force_off"))
    are(portal, "stopped", name, after)


async def whoami(host: str, port: int, username: str, key: asyncssh.SSHKey) -> str:
    async with asyncssh.connect(host, port, username=username, client_keys=[key], known_hosts=None, agent_path=None, password=None) as guest:
        return str((await guest.run("whoami", check=True)).stdout).strip()


def test_a_person_gets_in_with_their_own_key_also_where_the_machine_was_made_before_it_was_theirs(portal: RunningPortal) -> None:
    (name,) = make(portal, "keyed")
    key = asyncssh.generate_private_key("ssh-ed25519", comment="ada@laptop")
    portal.shell(GIVE.format(name=name, key=key.export_public_key().decode().strip()))
    portal.shell(POWER.format(name="keyed-", verb="start"))
    facts = "SELECT endpoints, username FROM machines_machine WHERE name = ? AND answering_since IS NOT NULL"
    ((endpoints, username),) = until(lambda: portal.rows(facts, name), 300, "the guest answers")
    (ssh,) = [endpoint for endpoint in json.loads(endpoints) if endpoint["service"] == "ssh" and endpoint["source"] == "forward"]
    assert asyncio.run(whoami(ssh["host"], ssh["port"], username, key)) == username
    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(whoami(ssh["host"], ssh["port"], username, asyncssh.generate_private_key("ssh-ed25519")))
    portal.shell(POWER.format(name="keyed-", verb="force_off"))
    are(portal, "stopped", name)


def test_stopping_the_portal_switches_its_machines_off_and_leaves_nothing(portal: RunningPortal) -> None:
    (name,) = make(portal, "last")
    portal.shell(POWER.format(name="last-", verb="start"))
    are(portal, "running", name)
    assert guests(portal)
    assert portal.stop() == 0
    assert guests(portal) == []
    assert portal.processes("") == []


def test_after_a_restart_the_page_tells_the_truth_and_machines_start_again(portal: RunningPortal) -> None:
    portal.start()
    are(portal, "stopped", "last-0")
    portal.shell(POWER.format(name="last-", verb="start"))
    are(portal, "running", "last-0")


def test_a_second_ctrl_c_does_not_wait_for_guests(portal: RunningPortal) -> None:
    assert guests(portal)
    portal.send(signal.SIGINT)
    until(lambda: "Stopping web" in portal.said() or not portal.processes("manage.py web"), 30, "it stops")
    portal.send(signal.SIGINT)
    assert portal.process is not None
    assert portal.process.wait(30) == 0
    assert guests(portal) == []
    assert portal.processes("") == []
