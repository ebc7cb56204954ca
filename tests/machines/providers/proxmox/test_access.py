"""What staff read when they test the connection, and people who sign in with an account of the cluster's."""

from pathlib import Path

import pytest

from machines.providers.errors import Unreachable
from machines.providers.proxmox.access import check, machine_privileges, realm_login
from machines.providers.proxmox.client import SecondFactorWanted

OLD_MACHINES = machine_privileges((8, 4))
NEW_MACHINES = machine_privileges((9, 0))
ACCOUNTS = iter(f"portal{number}@pve" for number in range(99))


@pytest.fixture
def account(cluster):
    """A new account with a token that may do what is granted here, and settings for it."""

    def account(*grants, **config):
        user = next(ACCOUNTS)
        cluster.control.add_user(user, "its-password")
        secret = cluster.control.add_token(user, "portal")
        for path, privileges, *propagate in grants:
            for who in (user, f"{user}!portal"):
                cluster.control.grant(who, path, list(privileges), propagate=propagate != [False])
        return secret, {"user": user, **config}

    return account


TEMPLATES = [(f"/vms/{number}", ("VM.Audit", "VM.Clone")) for number in (9000, 9001, 9100, 9101)]
STORAGES = [(f"/storage/{name}", ("Datastore.AllocateSpace", "Datastore.Audit")) for name in ("local-lvm", "shared", "dirs")]
REST = [*TEMPLATES, *STORAGES, ("/sdn/zones/localnetwork", ("SDN.Use",)), ("/nodes", ("Sys.Audit",))]
POOL = "/pool/labs"


def lines(client):
    return {line.name: line for line in check(client, client.config)}


def wrong(client):
    return {name: line.detail for name, line in lines(client).items() if not line.ok}


def test_all_is_well(connect):
    assert wrong(connect()) == {}
    assert lines(connect())["Account"].detail == "Signed in as labportal@pve!portal."


def test_the_password_account_is_checked_the_same(connect):
    assert wrong(connect(token_name="")) == {}


@pytest.mark.parametrize(
    ("version", "sufficient", "missing"),
    [
        ("9.0.10", NEW_MACHINES, None),
        ("9.0.10", OLD_MACHINES, "VM.GuestAgent.Audit"),
        ("8.4.1", OLD_MACHINES, None),
        ("8.4.1", NEW_MACHINES, "VM.Monitor"),
        ("7.4-3", OLD_MACHINES, None),
        ("7.4-3", NEW_MACHINES, "VM.Monitor"),
    ],
)
def test_what_machines_need_depends_on_the_version(connect, cluster, account, version, sufficient, missing):
    secret, config = account((POOL, (*sufficient, "Pool.Audit")), *REST)
    cluster.control.settings(version=version)
    found = wrong(connect(secret, **config))
    if missing:
        assert list(found) == ["Machines in the pool labs"]
        assert f"Missing on /pool/labs: {missing}" in found["Machines in the pool labs"]
    else:
        assert found == {}


@pytest.mark.parametrize(("version", "needed"), [("9.0.10", True), ("8.4.1", True), ("7.4-3", False)])
def test_networks_have_privileges_from_8_on(connect, cluster, account, version, needed):
    secret, config = account((POOL, (*OLD_MACHINES, *NEW_MACHINES, "Pool.Audit")), *TEMPLATES, *STORAGES, ("/nodes", ("Sys.Audit",)))
    cluster.control.settings(version=version)
    assert ("Network vmbr0" in wrong(connect(secret, **config))) is needed


@pytest.mark.parametrize("version", [(8, 4), (9, 0)])
def test_the_role_of_the_guide_is_what_machines_need_and_runs_nothing_in_guests(version):
    """The account of the fake has no more either."""
    guide = (Path(__file__).parents[4] / "docs" / "proxmox.md").read_text()
    needed = (*machine_privileges(version), "Pool.Audit")
    assert f"pveum role add LabportalMachines --privs '{' '.join(needed)}'" in guide
    assert not any("Unrestricted" in privilege or "FileWrite" in privilege for privilege in needed)


def test_the_command_that_helps_names_the_user_and_its_token(connect, account):
    secret, config = account((POOL, (*NEW_MACHINES, "Pool.Audit")), *TEMPLATES, *STORAGES[1:], *REST[-2:])
    told = wrong(connect(secret, **config))
    user = config["user"]
    assert list(told) == ["Storage local-lvm"]
    assert told["Storage local-lvm"].endswith(
        f"pveum acl modify /storage/local-lvm --users {user} --tokens '{user}!portal' --roles PVEDatastoreUser --propagate 1"
    )


def test_the_role_for_machines_is_spelt_out(connect, account):
    secret, config = account((POOL, ("VM.Audit",)), *REST)
    told = wrong(connect(secret, **config))["Machines in the pool labs"]
    assert f"pveum role add LabportalMachines --privs '{' '.join(NEW_MACHINES)} Pool.Audit'" in told
    assert "pveum acl modify /pool/labs " in told
    assert "Missing on /pool/labs: VM.Allocate, VM.PowerMgmt" in told


def test_a_token_that_was_forgotten_when_granting_may_do_nothing(connect, cluster, account):
    secret, config = account()
    cluster.control.grant(config["user"], "/", ["VM.Audit"])
    assert "privilege separation" in wrong(connect(secret, **config))["Account"]


@pytest.mark.parametrize("propagate", [True, False])
def test_without_a_pool_grants_on_all_machines_must_be_propagated(connect, account, propagate):
    secret, config = account(("/vms", (*NEW_MACHINES, "VM.Clone"), propagate), *REST, pool="")
    told = wrong(connect(secret, **config))
    if propagate:
        assert told == {}
    else:
        assert "It is granted on /vms without being propagated." in told["Machines"]
        assert "pveum acl modify /vms " in told["Machines"]


def test_an_account_that_sees_no_template_is_told_so(connect, account):
    secret, config = account((POOL, (*NEW_MACHINES, "Pool.Audit")), *STORAGES, *REST[-2:])
    assert "--roles PVETemplateUser" in wrong(connect(secret, **config))["Templates"]


def test_storages_copies_and_bridges_of_the_settings_are_looked_at(connect, account):
    secret, config = account((POOL, (*NEW_MACHINES, "Pool.Audit")), *TEMPLATES, *STORAGES, ("/nodes", ("Sys.Audit",)))
    client = connect(secret, **config, storages=["ceph"], template_copies={"9000": [9050]}, bridge="vmbr7")
    assert set(wrong(client)) == {"Storage ceph", "Template 9050", "Network vmbr7"}


def test_containers_from_os_templates_need_a_storage_for_their_disks_and_the_bridge(connect, account):
    """What cloned templates are on is not all: a container made of an OS template goes to any storage for containers."""
    audit = ("Datastore.Audit",)
    rest = [(POOL, (*NEW_MACHINES, "Pool.Audit")), ("/nodes", ("Sys.Audit",)), ("/storage/dirs", audit)]
    secret, config = account(*rest)
    assert "The account sees none" in lines(connect(secret, **config))["OS templates"].detail
    assert set(wrong(connect(secret, **config))) == {"Templates"}
    secret, config = account(*rest, ("/storage/local", audit))
    client = connect(secret, **config)
    assert "local" in lines(client)["OS templates"].detail
    told = wrong(client)
    assert set(told) == {"Templates", "Storage dirs", "Network vmbr0"}
    assert "Missing on /storage/dirs: Datastore.AllocateSpace" in told["Storage dirs"]
    assert set(wrong(connect(secret, **config, storages=["shared"], bridge="vmbr7"))) == {"Templates", "Storage shared", "Network vmbr7"}


def test_nodes_that_are_away_or_unknown(connect, cluster):
    cluster.control.node("pve3", online=False)
    try:
        assert "Not online: pve3." in wrong(connect())["Nodes"]
        assert wrong(connect(nodes=["pve1"])) == {}
    finally:
        cluster.control.node("pve3", online=True)
    assert "no pve9" in wrong(connect(nodes=["pve1", "pve9"]))["Nodes"]


def test_an_endpoint_that_is_down_is_one_line_of_many(connect, cluster, down):
    down(0)
    assert list(wrong(connect())) == [f"Endpoint {cluster.endpoints[0]}"]


def test_nothing_answers(connect, down):
    down(0)
    down(1)
    found = check(client := connect(), client.config)
    assert len(found) == 2 and not any(line.ok for line in found)


def test_a_wrong_secret(connect):
    told = wrong(connect("00000000-0000-4000-8000-000000000000"))
    assert "does not accept the portal's token" in told["Account"]


def test_trouble_in_the_midst_is_a_line_and_no_exception(connect, cluster):
    cluster.control.fault("GET", "/nodes", status=500, message="hell froze over", times=99)
    assert "hell froze over" in wrong(connect())["Nodes"]


def test_nothing_is_changed_by_looking(connect, cluster):
    client = connect()
    cluster.control.reset_calls()
    check(client, client.config)
    assert all(call.startswith("GET ") for call in cluster.control.calls())


# -- people --------------------------------------------------------------------------------------------


@pytest.fixture
def person(cluster):
    cluster.control.add_user("ada@pve", "ada's own", groups=["teachers", "admins"])


def test_somebody_with_the_right_password(cluster, person, connect):
    for who in ("labportal@pve", "labportal@pve!portal"):
        cluster.control.grant(who, "/access/groups", ["Sys.Audit"])
    try:
        assert realm_login(cluster.config(), "ada@pve", "ada's own", cluster.token_secret) == {"user": "ada@pve", "groups": ["admins", "teachers"]}
    finally:
        for who in ("labportal@pve", "labportal@pve!portal"):
            cluster.control.revoke(who, "/access/groups")


def test_groups_the_portal_could_not_read_are_not_known(cluster, person, connect):
    """None of them is something else: then somebody is in no group any more."""
    for secret in (cluster.token_secret, "00000000-0000-4000-8000-000000000000", ""):
        assert realm_login(cluster.config(), "ada@pve", "ada's own", secret) == {"user": "ada@pve", "groups": None}
    cluster.control.fault("GET", "/access/users/.*", status=596)
    assert realm_login(cluster.config(), "ada@pve", "ada's own", cluster.token_secret) == {"user": "ada@pve", "groups": None}


@pytest.mark.parametrize(("name", "password"), [("ada@pve", "wrong"), ("nobody@pve", "x"), ("ada", "ada's own"), ("ada@pve!x", "ada's own"), ("ada@pve", "")])
def test_somebody_else(cluster, person, connect, name, password):
    assert realm_login(cluster.config(), name, password, cluster.token_secret) is None


def test_a_stolen_ticket_is_no_password(cluster, person, connect):
    ticket = connect("ada's own", user="ada@pve", token_name="").sign_in().text
    assert realm_login(cluster.config(), "ada@pve", ticket) is None


def test_a_second_factor_is_refused_with_a_sentence(cluster, person, connect):
    cluster.control.settings(tfa=True)
    with pytest.raises(SecondFactorWanted, match="second factor"):
        realm_login(cluster.config(), "ada@pve", "ada's own")


def test_a_cluster_that_is_down_has_refused_nobody(cluster, person, connect, down):
    down(0)
    down(1)
    with pytest.raises(Unreachable):
        realm_login(cluster.config(), "ada@pve", "ada's own")
