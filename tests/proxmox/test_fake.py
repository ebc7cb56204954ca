"""The fake does what was observed on real clusters where fakepve alone does not."""

import ssl
import threading
import time

import pytest
import requests

from .api import Api, qemu, until

# -- who may do what ------------------------------------------------------------------------------


def test_a_fresh_token_has_nothing_and_then_what_both_it_and_its_user_have(cluster):
    control = cluster.control
    control.add_user("teacher@pve", "secret-enough")
    control.grant("teacher@pve", "/vms/9000", ["VM.Audit", "VM.Clone"])
    secret = control.add_token("teacher@pve", "fresh")
    with Api(cluster, {"Authorization": f"PVEAPIToken=teacher@pve!fresh={secret}"}) as token:
        assert token.get("/cluster/resources", type="vm") == []
        assert token.get("/access/permissions") == {}
        control.grant("teacher@pve!fresh", "/vms", ["VM.Audit", "VM.PowerMgmt"])
        assert [line["vmid"] for line in token.get("/cluster/resources", type="vm")] == [9000]
        assert token.get("/access/permissions") == {"/vms/9000": {"VM.Audit": 1}}
        assert token.refusal("POST", "/nodes/pve1/qemu/9000/status/start") == "403 Permission check failed (/vms/9000, VM.PowerMgmt)"
        control.revoke_token("teacher@pve!fresh")
        assert token.refusal("GET", "/version") == "401 Authentication failed!"


def test_rights_through_the_pool_come_with_the_end_of_the_clone(api, cluster, number):
    vmid = number()
    cluster.control.settings(durations={"qmclone": 20})
    task = api.data("POST", qemu(9000, "/clone"), newid=vmid, name="slow", pool="labs")
    assert api.refusal("GET", qemu(vmid, "/config")).startswith("403")
    assert cluster.control.guest(vmid)["config"] == {"lock": "clone"}
    cluster.control.settings(durations={"qmclone": 2})
    assert api.exit_status(task) == "OK"
    assert api.get(qemu(vmid, "/config"))["name"] == "slow"


def test_a_ticket_is_renewed_with_itself_and_ends(root, cluster):
    old = root.sign_in("root@pam", "secret")
    assert root.sign_in("root@pam", old) != old
    assert root.get("/version")["release"] == "9.0"
    cluster.control.revoke_tickets()
    assert root.refusal("GET", "/version") == "401 Authentication failed!"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"args": "-S"}, "500 only root can set 'args' config"),
        ({"lock": "backup"}, "500 only root can set 'lock' config"),
        ({"startup": "order=1"}, "403 Permission check failed (/, Sys.Modify)"),
        ({"skiplock": 1}, "400 Parameter verification failed."),
    ],
)
def test_what_only_root_may(api, made, option, said):
    assert api.refusal("PUT", qemu(made, "/config"), **option) == said


# -- transport --------------------------------------------------------------------------------------


def test_a_401_comes_late_empty_and_closes(cluster):
    with Api(cluster, {}) as stranger:
        began = time.monotonic()
        answer = stranger.call("GET", "/version")
        assert (answer.status_code, answer.reason, answer.content, answer.headers["Connection"]) == (401, "No ticket", b"", "close")
        assert time.monotonic() - began > 3 * 0.02


def test_every_refusal_closes_the_connection(api):
    answer = api.call("GET", qemu(424242, "/config"))
    assert answer.status_code == 403
    assert answer.headers["Connection"] == "close"
    assert api.call("GET", "/version").headers.get("Connection") != "close"


def test_a_node_that_is_away_is_a_595_without_a_body(api, made, cluster):
    cluster.control.node("pve1", online=False)
    answer = api.call("GET", qemu(made, "/status/current"))
    assert (answer.status_code, answer.reason, answer.content) == (595, "No route to host", b"")
    assert api.resource(made)["status"] == "unknown"
    cluster.control.node("pve1", online=True)
    assert api.get(qemu(made, "/status/current"))["status"] == "stopped"


def test_faults_on_demand(api, cluster, number):
    lost, timed_out, hanging = (number() for _ in range(3))
    path = "/nodes/{node}/qemu/{vmid}/clone"
    cluster.control.fault("POST", path, done=True, drop=True)
    with pytest.raises(requests.ConnectionError):
        api.clone(lost)
    cluster.control.fault("POST", path, done=True, status=596, message="Connection timed out")
    assert api.refusal("POST", qemu(9000, "/clone"), newid=timed_out, pool="labs") == "596 Connection timed out"
    cluster.control.fault("POST", path, done=True, hang=True)
    with pytest.raises(requests.Timeout):
        api.call("POST", qemu(9000, "/clone"), newid=hanging, pool="labs", timeout=0.2)
    assert cluster.control.faults() == []
    for vmid in (lost, timed_out, hanging):
        assert until(lambda vmid=vmid: cluster.control.guest(vmid)["pool"]) == "labs"
    cluster.control.fault("GET", "/version", status=502, message="<h1>Bad gateway</h1>", html=True, skip=1)
    assert [api.call("GET", "/version").status_code for _ in range(3)] == [200, 502, 200]


def test_the_limits_of_the_server(api):
    answer = api.session.delete(api.base + "/nodes/pve1/qemu/9000", data={"purge": 1}, timeout=5)
    assert (answer.status_code, answer.reason) == (501, "Unexpected content for method 'DELETE'")
    with pytest.raises(requests.ConnectionError):
        api.call("PUT", qemu(9000, "/config"), description="x" * (600 << 10))


def test_another_certificate_is_served_to_new_connections(cluster):
    port = cluster.port
    first = ssl.get_server_certificate(("127.0.0.1", port))
    other = cluster.control.certificate("second")
    assert other["fingerprint"] != cluster.fingerprint
    with Api(cluster) as api, pytest.raises(requests.exceptions.SSLError):
        api.get("/version")
    cluster.control.certificate("first")
    assert ssl.get_server_certificate(("127.0.0.1", port)) == first


def test_one_endpoint_of_two_goes_away_and_comes_back(cluster):
    cluster.control.endpoint(0, up=False)
    with Api(cluster) as first, pytest.raises(requests.ConnectionError):
        first.get("/version")
    with Api(cluster, endpoint=1) as second:
        assert second.get("/version")
    cluster.control.endpoint(0, up=True)
    with Api(cluster) as first:
        assert first.get("/version")


def test_calls_are_counted_by_template(api, cluster, made):
    cluster.control.reset_calls()
    api.get(qemu(made, "/config"))
    api.get(qemu(9000, "/config"))
    assert cluster.control.calls() == {"GET /nodes/{node}/qemu/{vmid}/config": 2}


# -- the inventory --------------------------------------------------------------------------------------


def test_a_new_guest_has_no_name_and_changes_show_late(api, cluster, number):
    vmid = number()
    cluster.control.settings(lag=None)
    assert api.clone(vmid) == "OK"
    line = api.resource(vmid)
    assert line["status"] == "unknown"
    assert line["pool"] == "labs"
    assert not {"name", "template"} & set(line)
    cluster.control.tell_statistics()
    assert (api.resource(vmid)["name"], api.resource(vmid)["status"]) == (f"clone-{vmid}", "stopped")
    assert api.run("POST", qemu(vmid, "/status/start")) == "OK"
    assert api.resource(vmid)["status"] == "stopped"
    assert api.get(qemu(vmid, "/status/current"))["status"] == "running"
    cluster.control.settings(lag=10)
    until(lambda: api.resource(vmid)["status"] == "running")


def test_a_thousand_guests_in_one_quick_call(root, cluster):
    cluster.control.add_many(500000, 1000)
    began = time.monotonic()
    assert len(root.get("/cluster/resources", type="vm")) > 1000
    assert time.monotonic() - began < 5
    for vmid in range(500000, 501000):
        cluster.control.remove(vmid)


def test_calls_of_many_threads_are_all_answered(cluster):
    def look():
        with Api(cluster) as api:
            answers.append(len(api.get("/nodes")))

    answers = []
    threads = [threading.Thread(target=look) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [3] * 10
