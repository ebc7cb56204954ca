"""What answers of Proxmox VE mean; the texts are those of its sources and of reports from the field."""

import pickle

import pytest

from machines.providers.errors import (
    AuthFailed,
    Busy,
    InvalidSpec,
    NotRunning,
    OutcomeUnknown,
    Overloaded,
    StorageFull,
    TaskFailed,
    Unreachable,
    Unsupported,
)
from machines.providers.proxmox.answers import (
    AlreadyRunning,
    AlreadyThere,
    CannotLink,
    Forbidden,
    NoQuorum,
    NoSuchTask,
    NotThere,
    clean,
    refusal,
    task_error,
    warnings,
)

EMPTY = {"data": None}

TEXTS = [
    ("can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout", Busy),
    ("clone failed: can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout", Busy),
    ("can't lock file '/run/lock/lxc/pve-config-100.lock' - got timeout", Busy),
    ("clone failed: can't lock file '/var/lock/pve-manager/pve-storage-local-lvm' - got timeout", Overloaded),
    ("cfs-lock 'storage-shared' error: got lock request timeout", Overloaded),
    ("'storage-shared'-locked command timed out - aborting", Overloaded),
    ("start failed: command '/usr/bin/kvm -id 101' failed: got timeout", Overloaded),
    ("VM 101 qmp command 'guest-network-get-interfaces' failed - got timeout", TaskFailed),
    ("QEMU guest agent is not running", TaskFailed),
    ("got no worker upid - start worker failed", Overloaded),
    ("unable to find free port (5900-6000)", Overloaded),
    ("cfs-lock 'storage-shared' error: no quorum!", NoQuorum),
    ("cluster not ready - no quorum?", NoQuorum),
    ("VM is locked (backup)", Busy),
    ("CT is locked (disk)", Busy),
    ("VM is locked (snapshot-delete)", Busy),
    ("checksum mismatch (file change by other user?)", Busy),
    ("unable to create VM 101: config file already exists", AlreadyThere),
    ("clone failed: unable to create VM 101 - VM 101 already exists on node 'pve2'", AlreadyThere),
    ("CT 101 already exists on node 'pve1'", AlreadyThere),
    ("Configuration file 'nodes/pve1/qemu-server/101.conf' does not exist", NotThere),
    ("unable to find configuration file for VM 101 on node 'pve1'", NotThere),
    ("VM 101 already running", AlreadyRunning),
    ("CT 101 not running", NotRunning),
    ("VM 101 is not running", NotRunning),
    ("clone failed: lvcreate 'pve/vm-101-disk-0' error: insufficient free space", StorageFull),
    ("unable to create image: write error: No space left on device", StorageFull),
    ("lvcreate 'pve/vm-1' error: Cannot create new thin volume, free space in thin pool pve/data reached threshold.", StorageFull),
    ("Linked clone feature for 'dirs:9101/x.raw' is not available", CannotLink),
    ("No QEMU guest agent configured", Unsupported),
    ("only root can set 'args' config", Forbidden),
    ("hostname lookup 'pve9' failed - failed to get address info", TaskFailed),
    ("storage 'shared' is not online", TaskFailed),
    ("can't remove VM 101 - protection mode enabled", TaskFailed),
    ("something nobody has heard of", TaskFailed),
]


@pytest.mark.parametrize(("text", "kind"), TEXTS)
@pytest.mark.parametrize("wrote", [True, False])
def test_a_refusal_with_a_text(text, kind, wrote):
    newer = refusal(500, text, {"data": None, "message": text + "\n"}, wrote=wrote)
    older = refusal(500, text, EMPTY, wrote=wrote)
    assert type(newer) is type(older) is kind
    assert newer.detail == f"500 {text}"


@pytest.mark.parametrize(("text", "kind"), TEXTS)
def test_a_task_that_failed_with_the_same_text(text, kind):
    assert type(task_error(text)) is kind


@pytest.mark.parametrize("status", [595, 596, 597, 598, 599])
def test_proxying_that_failed(status):
    assert type(refusal(status, "Connection refused", None, wrote=False, path="/nodes/pve2/status")) is Unreachable
    unknown = refusal(status, "Connection refused", None, wrote=True, path="nodes/pve2/qemu/9000/clone")
    assert type(unknown) is OutcomeUnknown
    assert "pve2" in unknown.message


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failure_of_something_in_between(status):
    assert type(refusal(status, "Bad Gateway", None, wrote=False)) is Unreachable
    assert type(refusal(status, "Bad Gateway", None, wrote=True)) is OutcomeUnknown


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (400, "Parameter verification failed.", InvalidSpec),
        (400, "no such task", NoSuchTask),
        (400, "upid: unable to parse worker upid", NoSuchTask),
        (401, "No ticket", AuthFailed),
        (401, "Authentication failed!", AuthFailed),
        (401, "permission denied - invalid PVE ticket", AuthFailed),
        (403, "Permission check failed (/vms/9000, VM.Clone)", Forbidden),
        (404, "Not Found", Unreachable),
        (429, "Too Many Requests", Overloaded),
        (501, "Method 'POST /nodes/pve1/x' not implemented", Unsupported),
    ],
)
def test_other_statuses(status, reason, kind):
    assert type(refusal(status, reason, None, wrote=True)) is kind


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("Permission check failed (/vms/9000, VM.Clone)", "The portal's account on the cluster lacks the privilege VM.Clone on /vms/9000."),
        (
            "Permission check failed (/storage/x, Datastore.Audit|Datastore.AllocateSpace)",
            "lacks the privilege Datastore.Audit or Datastore.AllocateSpace on /storage/x.",
        ),
        ("Permission check failed (pool 'labs' does not exist)", "The cluster has no pool labs."),
        ("URI '/access/ticket' not available with API token, need proper ticket.", "it takes an account with a password"),
        ("Permission check failed", "is not allowed to do this"),
    ],
)
def test_what_is_missing_is_said_in_words(reason, message):
    assert message in refusal(403, reason, EMPTY, wrote=True).message


def test_a_refused_form_names_its_fields():
    body = {
        "data": None,
        "message": "Parameter verification failed.\n",
        "errors": {"cores": "value must have a minimum value of 1\n", "name": "invalid format"},
    }
    error = refusal(400, "Parameter verification failed.", body, wrote=True)
    assert error.message.endswith("cores – value must have a minimum value of 1; name – invalid format")
    assert "cores: value must have" in error.detail


# -- tasks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "count"), [("OK", 0), ("WARNINGS: 1", 1), ("WARNINGS: 12", 12)])
def test_a_task_that_did_its_work(status, count):
    assert task_error(status) is None
    assert warnings(status) == count


@pytest.mark.parametrize("status", ["unexpected status", "interrupted by signal", ""])
def test_a_task_that_was_cut_short_is_in_doubt(status):
    assert type(task_error(status)) is OutcomeUnknown


def test_a_task_may_lack_a_privilege():
    error = task_error("Permission check failed (/storage/x, Datastore.AllocateSpace)")
    assert type(error) is Forbidden and "Datastore.AllocateSpace on /storage/x" in error.message


# -- details -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "PVE:root@pam:65F0A3B1::c2lnbmF0dXJl",
        "ticket PVEVNC:65F0A3B1::c2lnbmF0dXJl is invalid",
        "Authorization: PVEAPIToken=labportal@pve!portal=c2lnbmF0dXJl",
        '{"password": "c2lnbmF0dXJl"}',
        "cipassword=c2lnbmF0dXJl&x=1",
        "given: c2lnbmF0dXJl",
    ],
)
def test_details_keep_no_secret(text):
    assert "c2lnbmF0dXJl" not in clean(text, secrets=["c2lnbmF0dXJl"] if text.startswith("given") else [])


def test_details_are_one_bounded_line():
    assert clean("first\r\nsecond\x1b[31m\x00  third") == "first second [31m third"
    assert len(clean("x" * 5000)) == 300


def test_they_travel_between_processes():
    error = refusal(403, "Permission check failed (/vms/9000, VM.Clone)", EMPTY, wrote=True)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.message, again.detail) == (Forbidden, error.message, error.detail)
