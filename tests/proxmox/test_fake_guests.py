"""Guests of the fake: clones and their locks, configuration, agent, power, tasks, and what others do."""

import time
from urllib.parse import quote

import pytest

from .api import qemu, until
from .control import interface

# -- clones ---------------------------------------------------------------------------------------------


def test_clones_run_side_by_side_until_somebody_holds_the_template(api, cluster, number):
    tasks = [api.data("POST", qemu(9000, "/clone"), newid=number(), pool="labs") for _ in range(8)]
    assert {api.exit_status(task) for task in tasks} == {"OK"}
    cluster.control.hold_config_lock(9000)
    vmid = number()
    assert api.clone(vmid) == "can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout"
    assert api.resource(vmid) is None
    cluster.control.release_config_lock(9000)
    assert api.clone(vmid) == "OK"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (9000, "clone failed: can't lock file '/var/lock/pve-manager/pve-storage-local-lvm' - got timeout"),
        (9001, "clone failed: cfs-lock 'storage-shared' error: got lock request timeout"),
    ],
)
def test_too_many_clones_wait_for_the_storage_and_give_up(api, cluster, template, text, number):
    cluster.control.settings(clones_per_storage=1, storage_lock_wait=0.5, durations={"qmclone": 10})
    tasks = [api.data("POST", qemu(template, "/clone"), newid=number(), pool="labs") for _ in range(2)]
    assert [api.exit_status(task) for task in tasks] == ["OK", text]


def test_a_taken_number_is_refused(api, cluster, made):
    assert api.refusal("POST", qemu(9000, "/clone"), newid=made, pool="labs") == f"500 unable to create VM {made}: config file already exists"
    assert api.refusal("GET", "/cluster/nextid", vmid=made).startswith("400")


def test_local_disks_do_not_go_to_another_node(api, cluster, number):
    there = {"newid": number(), "pool": "labs", "target": "pve2"}
    assert api.refusal("POST", qemu(9000, "/clone"), **there) == "500 can't clone VM to node 'pve2' (VM uses local storage)"
    assert api.run("POST", qemu(9001, "/clone"), **there) == "OK"
    assert cluster.control.guest(there["newid"])["node"] == "pve2"


def test_a_bridge_needs_its_privilege(api, cluster, number):
    account = f"{cluster.user}!{cluster.token_name}"
    cluster.control.revoke(account, "/sdn/zones/localnetwork")
    refused = api.refusal("POST", qemu(9000, "/clone"), newid=number(), pool="labs")
    assert refused == "403 Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)"
    cluster.control.grant(account, "/sdn/zones/localnetwork", ["SDN.Use"])


def test_containers_are_cloned_one_after_the_other_and_never_linked_on_a_directory(api, cluster, number):
    first, second = number(), number()
    cluster.control.settings(durations={"vzclone": 20})
    task = api.data("POST", "/nodes/pve1/lxc/9100/clone", newid=first, pool="labs")
    assert api.refusal("POST", "/nodes/pve1/lxc/9100/clone", newid=second, pool="labs") == "500 CT is locked (disk)"
    cluster.control.settings(durations={"vzclone": 2})
    assert api.exit_status(task) == "OK"
    refused = api.refusal("POST", "/nodes/pve1/lxc/9101/clone", newid=second, pool="labs")
    assert refused == "500 Linked clone feature for 'dirs:9101/base-9101-disk-0.raw' is not available"
    assert api.clone(second, 9101, "lxc", full=1) == "OK"
    assert api.get(f"/nodes/pve1/lxc/{second}/feature", feature="snapshot") == {"hasFeature": 0}
    assert api.get(f"/nodes/pve1/lxc/{first}/feature", feature="snapshot") == {"hasFeature": 1}


def test_a_template_stays_while_linked_clones_need_it(api, root, number):
    assert api.clone(number(), 9001) == "OK"
    assert root.run("DELETE", qemu(9001)) == "base volume 'shared:9001/base-9001-disk-0.qcow2' is still in use by linked cloned"


# -- configuration, agent, power -----------------------------------------------------------------------


def test_a_clone_has_a_cloudinit_drive_of_its_own_and_hides_the_password(api, cluster, made):
    api.data("PUT", qemu(made, "/config"), cipassword="in-clear", ciuser="student", cores=2)
    config = api.get(qemu(made, "/config"))
    assert config["ide2"] == f"local-lvm:vm-{made}-cloudinit,media=cdrom"
    assert (config["cipassword"], config["cores"]) == ("**********", 2)
    assert cluster.control.guest(made)["config"]["cipassword"] == "in-clear"
    assert api.refusal("PUT", qemu(made, "/config"), sshkeys=quote("no key", safe="")) == "500 SSH public key validation error"


def test_a_disk_grows_and_never_shrinks(api, made):
    assert api.run("PUT", qemu(made, "/resize"), disk="scsi0", size="16G") == "OK"
    assert "size=16G" in api.get(qemu(made, "/config"))["scsi0"]
    assert api.refusal("PUT", qemu(made, "/resize"), disk="scsi0", size="8G") == "500 shrinking disks is not supported"


def test_a_rollback_brings_the_old_configuration_back_and_keeps_the_description(api, made):
    api.data("PUT", qemu(made, "/config"), tags="old", cores=1)
    assert api.run("POST", qemu(made, "/snapshot"), snapname="baseline") == "OK"
    api.data("PUT", qemu(made, "/config"), tags="new", cores=2, name="renamed", description="ours")
    assert api.run("POST", qemu(made, "/snapshot/baseline/rollback")) == "OK"
    config = api.get(qemu(made, "/config"))
    assert (config["tags"], config["cores"], config["name"], config["description"]) == ("old", 1, f"clone-{made}", "ours")


def test_what_an_agent_says_and_what_its_absence_costs(api, cluster, made):
    ask, control = qemu(made, "/agent/network-get-interfaces"), cluster.control
    assert api.refusal("GET", ask) == f"500 VM {made} is not running"
    api.run("POST", qemu(made, "/status/start"))
    control.change_guest(made, agent={"interfaces": [interface("169.254.169.254", "127.0.0.1\nHost: x")]})
    told = api.get(ask)["result"]
    assert told[0]["hardware-address"] in api.get(qemu(made, "/config"))["net0"].lower()
    assert [line["ip-address"] for line in told[0]["ip-addresses"]] == ["169.254.169.254", "127.0.0.1\nHost: x"]
    control.change_guest(made, agent=None)
    began = time.monotonic()
    assert api.refusal("GET", ask) == "500 QEMU guest agent is not running"
    assert time.monotonic() - began > 3 * 0.02
    control.change_guest(made, config={"agent": "0"})
    assert api.refusal("GET", ask) == "500 No QEMU guest agent configured"


def test_a_shutdown_of_what_is_off(api, made, number):
    assert api.run("POST", qemu(made, "/status/shutdown")) == "OK"
    vmid = number()
    assert api.clone(vmid, 9100, "lxc") == "OK"
    assert api.refusal("POST", f"/nodes/pve1/lxc/{vmid}/status/shutdown") == f"500 CT {vmid} not running"
    assert api.get(f"/nodes/pve1/lxc/{vmid}/interfaces") is None


@pytest.mark.parametrize(("kind", "template"), [("qemu", 9000), ("lxc", 9100)])
def test_an_ignored_shutdown_is_overruled(api, cluster, kind, template, number):
    vmid = number()
    api.clone(vmid, template, kind)
    at = f"/nodes/pve1/{kind}/{vmid}/status"
    api.run("POST", at + "/start")
    cluster.control.change_guest(vmid, **({"acpi": False} if kind == "qemu" else {"shutdown_secs": 99999}))
    shutdown = api.data("POST", at + "/shutdown")
    assert api.run("POST", at + "/stop", overrule_shutdown=1) == "OK"
    assert api.exit_status(shutdown) == "unexpected status"
    assert cluster.control.guest(vmid)["status"] == "stopped"


def test_a_backup_holds_the_lock(api, cluster, made):
    cluster.control.backup(made, seconds=20)
    assert api.resource(made)["lock"] == "backup"
    assert api.refusal("PUT", qemu(made, "/config"), cores=2) == "500 VM is locked (backup)"
    until(lambda: "lock" not in api.resource(made))


def test_without_quorum_nothing_is_written(api, cluster, made, number):
    cluster.control.quorum(False)
    for method, path in (("DELETE", qemu(made)), ("POST", qemu(made, "/status/start")), ("POST", qemu(9000, f"/clone?newid={number()}&pool=labs"))):
        assert api.refusal(method, path) == "500 cluster not ready - no quorum?"
    assert api.get(qemu(made, "/config"))
    cluster.control.quorum(True)
    assert api.run("DELETE", qemu(made)) == "OK"


def test_a_full_storage_fails_in_the_task(api, cluster, number):
    free = 900 << 30
    cluster.control.storage("local-lvm", avail=1 << 30)
    vmid = number()
    assert "No space left on device" in api.clone(vmid, full=1)
    assert api.resource(vmid) is None
    line = next(line for line in api.get("/cluster/resources", type="storage") if line["storage"] == "local-lvm")
    assert line["maxdisk"] - line["disk"] == 1 << 30
    cluster.control.storage("local-lvm", avail=free)


# -- tasks ------------------------------------------------------------------------------------------------


def test_tasks_are_listed_and_unknown_ones_named(api, cluster, made):
    cluster.control.settings(durations={"qmstart": 50})
    task = api.data("POST", qemu(made, "/status/start"))
    assert [line["upid"] for line in api.get("/nodes/pve1/tasks", source="active")] == [task]
    ended = api.get("/nodes/pve1/tasks", typefilter="qmclone", source="all", since=1)
    assert {line["type"] for line in ended} == {"qmclone"}
    assert (ended[0]["user"], ended[0]["tokenid"], ended[0]["id"]) == ("labportal@pve", "portal", "9000")
    api.data("DELETE", f"/nodes/pve1/tasks/{quote(task)}")
    assert api.exit_status(task) == "unexpected status"
    assert api.call("GET", "/nodes/pve1/tasks/nonsense/status").json()["errors"] == {"upid": "unable to parse worker upid"}
    cluster.control.forget_tasks()
    assert api.call("GET", f"/nodes/pve1/tasks/{quote(task)}/status").json()["errors"] == {"upid": "no such task"}


def test_tasks_end_with_warnings_or_fail_on_demand(api, cluster, number):
    vmid = number()
    cluster.control.task_fault("qmclone", "WARNINGS: 1")
    assert api.clone(vmid) == "WARNINGS: 1"
    assert api.resource(vmid)
    cluster.control.task_fault("qmdestroy", "WARNINGS: 1")
    assert api.run("DELETE", qemu(vmid)) == "WARNINGS: 1"
    assert api.resource(vmid) is None
    cluster.control.task_fault("qmclone", "clone failed: disk on fire")
    assert api.clone(vmid) == "clone failed: disk on fire"
    assert api.clone(vmid) == "OK"


# -- others -------------------------------------------------------------------------------------------------


def test_a_stranger_takes_our_number_and_a_guest_moves(root, cluster, made):
    cluster.control.replace(made, "strangers", node="pve2")
    assert root.get(f"/nodes/pve2/qemu/{made}/config")["name"] == "strangers"
    assert root.refusal("GET", qemu(made, "/config")) == f"500 Configuration file 'nodes/pve1/qemu-server/{made}.conf' does not exist"
    cluster.control.migrate(made, "pve3")
    until(lambda: root.resource(made)["node"] == "pve3")
