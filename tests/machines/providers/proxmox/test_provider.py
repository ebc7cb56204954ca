"""What the provider does at a cluster where all is well: how many calls, which settings, what is brought back."""

from dataclasses import replace
from urllib.parse import unquote

import pytest

from machines.providers.errors import InvalidSpec, NotRunning, TaskFailed, Unsupported
from machines.providers.proxmox import guests, label
from machines.providers.types import ConsoleKind, MachineIdentity, Power, Presence, Stage
from tests.proxmox.control import interface

from .desk import KEY, SEED, Desk

OS_TEMPLATE = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
MOST_CALLS = 12


def hosts(provider, machine) -> list[str]:
    return [endpoint.host for endpoint in provider.endpoints(*machine.place) if endpoint.service != "mac"]


def test_a_machine_costs_few_calls(desk: Desk) -> None:
    desk.made()  # what is asked for once is asked for now
    desk.control.reset_calls()
    machine = desk.new()
    assert machine.find().presence is Presence.ABSENT
    desk.settle(machine.create())
    assert machine.find().stage is Stage.READY
    machine.configure()
    desk.settle(desk.provider.begin_start(*machine.place))
    calls = {call: count for call, count in desk.control.calls().items() if "/tasks" not in call}
    assert sum(calls.values()) < MOST_CALLS, calls
    assert machine.find().power is Power.ON


def test_all_guests_are_asked_for_only_to_find_one_that_is_not_where_it_was(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, "FRESH_SECONDS", -1.0)  # whatever is known is old
    first, second = desk.made(), desk.made()
    provider = desk.another()
    assert provider.find(*first.place).presence is Presence.OURS
    desk.control.reset_calls()
    for machine in (first, second, first):
        assert provider.find(*machine.place).presence is Presence.OURS
    assert "GET /cluster/resources" not in desk.control.calls()
    desk.control.change_guest(second.number, node="pve2")
    assert provider.find(*second.place).node == "pve2"
    desk.control.remove(first.number)
    assert provider.find(*first.place).presence is Presence.ABSENT
    assert desk.control.calls()["GET /cluster/resources"] == 2


def test_one_that_was_taken_to_another_node_when_its_own_failed_is_found(desk: Desk) -> None:
    machine, provider = desk.made(), desk.another()
    provider.find(*machine.place)
    provider._guests._resources = (0.0, provider._guests.resources())
    desk.control.change_guest(machine.number, node="pve2")
    desk.control.fault("GET", "/nodes/pve1/.*", status=595, times=20)
    assert provider.find(*machine.place).node == "pve2"


def test_many_tasks_are_followed_with_one_call_per_node(desk: Desk) -> None:
    tasks = [desk.new().create() for _ in range(5)]
    desk.control.reset_calls()
    desk.provider.poll([task for task in tasks if task])
    assert sum(desk.control.calls().values()) == 1
    for task in tasks:
        desk.settle(task)


def test_what_a_machine_is_given(desk: Desk) -> None:
    machine = desk.made(disk_gib=12)
    config = machine.truth()["config"]
    assert (config["cores"], int(config["memory"]), config["tags"]) == (2, 512, "labportal")
    assert (config["ciuser"], config["cipassword"], unquote(config["sshkeys"])) == (SEED.username, SEED.password, KEY)
    assert "size=12G" in config["scsi0"]
    assert label.parse(config["description"]) == (machine.identity.portal, machine.identity.key)
    assert machine.truth()["name"] == label.guest_name(machine.identity)
    assert list(machine.truth()["snapshots"]) == ["labportal-baseline"]
    desk.control.reset_calls()
    assert machine.configure() == 0
    assert not [call for call in desk.control.calls() if not call.startswith("GET")]


def test_a_cluster_that_keeps_tags_to_itself(desk: Desk) -> None:
    machine = desk.new()
    desk.settle(machine.create())
    desk.control.fault(
        "PUT", "/nodes/{node}/qemu/{vmid}/config", status=403, message="Permission check failed (/vms/1, VM.Config.Options) for modifying tag 'labportal'"
    )
    machine.configure()
    assert machine.truth()["config"]["cores"] == 2


def test_a_revert_brings_sizes_back_to_what_is_wanted(desk: Desk) -> None:
    machine = desk.made()
    larger = replace(machine.spec, cores=4, memory_mib=1024)
    desk.settle(desk.provider.begin_resize(*machine.place, larger))
    desk.settle(desk.provider.begin_revert(*machine.place, larger))
    assert machine.truth()["config"]["cores"] == 2
    machine.spec = larger
    machine.configure()
    assert machine.truth()["config"]["cores"] == 4
    assert machine.find().stage is Stage.READY
    with pytest.raises(InvalidSpec):
        desk.provider.begin_resize(*machine.place, replace(larger, disk_gib=1))


@pytest.mark.parametrize("name", ["1a", "current", "before-exam"])
def test_snapshots_of_any_name(desk: Desk, name: str) -> None:
    machine = desk.made()
    desk.settle(desk.provider.begin_snapshot(*machine.place, name))
    assert desk.provider.begin_snapshot(*machine.place, name) is None
    assert [kept.name for kept in desk.provider.snapshots(*machine.place)] == [name]
    desk.settle(desk.provider.begin_revert(*machine.place, machine.spec, name))
    with pytest.raises(TaskFailed):
        desk.provider.begin_revert(*machine.place, machine.spec, "never-taken")
    desk.settle(desk.provider.begin_delete_snapshot(*machine.place, name))
    assert desk.provider.snapshots(*machine.place) == []
    assert list(machine.truth()["snapshots"]) == ["labportal-baseline"]


def test_without_snapshots_a_revert_makes_the_machine_anew(desk: Desk) -> None:
    machine = desk.made("9101", linked=False)
    assert not machine.find().snapshots
    assert desk.made("9100", linked=False).find().snapshots
    assert not machine.truth()["snapshots"]
    desk.control.change_guest(machine.number, config={"nameserver": "192.0.2.1"})
    machine.remake()
    machine.configure()
    assert "nameserver" not in machine.truth()["config"]
    assert machine.find().presence is Presence.OURS
    with pytest.raises(Unsupported):
        desk.provider.begin_snapshot(*machine.place, "kept")


def test_where_no_linked_clone_can_be_made_it_is_a_full_one(desk: Desk) -> None:
    machine = desk.made("9101", linked=True)
    assert machine.find().presence is Presence.OURS
    machine.remake()
    assert machine.find().presence is Presence.OURS


def test_staff_are_told_which_storages_keep_no_snapshots(desk: Desk) -> None:
    told = next(check for check in desk.provider.check() if check.name == "Snapshots of containers")
    assert told.ok
    assert "dirs" in told.detail and "local-lvm" not in told.detail


def test_nothing_is_made_anew_where_something_else_is(desk: Desk) -> None:
    machine = desk.made("9101", linked=False)
    machine.start()
    with pytest.raises(Exception, match="on"):
        desk.provider.begin_revert(*machine.place, machine.spec)
    assert machine.find().power is Power.ON


def test_a_container_of_an_os_template_has_its_password(desk: Desk) -> None:
    machine = desk.made(OS_TEMPLATE, disk_gib=6)
    found = machine.truth()
    assert found["credentials"] == {"password": SEED.password, "ssh-public-keys": KEY}
    assert found["config"]["unprivileged"] == 1
    assert "size=6G" in found["config"]["rootfs"]
    machine.start()


def test_templates_are_told_with_what_can_be_set_in_them(desk: Desk) -> None:
    desk.control.tell_statistics()
    found = {template.ref: template for template in desk.another(template_copies={"9000": [9001]}).templates()}
    assert set(found) == {"9000", "9100", "9101", OS_TEMPLATE}
    assert (found["9000"].kind, found["9000"].seeded, found["9000"].disk_gib) == ("vm", True, 8)
    assert (found["9100"].kind, found["9100"].seeded) == ("container", False)
    assert (found[OS_TEMPLATE].kind, found[OS_TEMPLATE].seeded, found[OS_TEMPLATE].username) == ("container", True, "root")


def test_addresses_are_those_of_the_first_card(desk: Desk) -> None:
    machine = desk.made()
    assert hosts(desk.provider, machine) == []  # it is off
    machine.start()
    told = [
        interface("127.0.0.1", mac="00:00:00:00:00:00", name="lo"),
        interface("172.17.0.1", mac="02:42:00:00:00:01", name="docker0"),
        interface("10.9.9.9", mac="02:00:00:00:00:02", name="eth1"),
        interface("169.254.1.1", "192.0.2.77", "fe80::1", "2001:db8::7", "127.0.0.1\nHost: x"),
    ]
    desk.control.change_guest(machine.number, agent={"interfaces": told})
    assert hosts(desk.provider, machine) == ["192.0.2.77", "2001:db8::7"]
    desk.control.change_guest(machine.number, agent=None)
    assert hosts(desk.provider, machine) == []
    desk.control.change_guest(machine.number, config={"agent": "0"})
    desk.control.reset_calls()
    assert hosts(desk.another(), machine) == []
    assert not [call for call in desk.control.calls() if "/agent/" in call]


def test_addresses_of_a_container(desk: Desk) -> None:
    machine = desk.made("9100")
    assert hosts(desk.provider, machine) == []
    machine.start()
    desk.control.change_guest(machine.number, interfaces=[{"name": "eth0", "hwaddr": "net0", "inet": "192.0.2.5/24"}, {"name": "lo", "inet": "127.0.0.1/8"}])
    assert hosts(desk.provider, machine) == ["192.0.2.5"]


@pytest.mark.parametrize("template", ["9000", "9100"])
def test_consoles_are_told_where_they_were_asked_for(desk: Desk, template: str) -> None:
    machine = desk.made(template)
    with pytest.raises(NotRunning):
        desk.provider.open_console(*machine.place, ConsoleKind.SCREEN)
    machine.start()
    screen = desk.provider.open_console(*machine.place, ConsoleKind.SCREEN)
    assert screen.url.startswith(f"wss://{desk.cluster.endpoints[0]}/api2/json/nodes/pve1/")
    assert " " not in screen.url and "<" not in screen.url.partition("vncticket=")[2]
    assert screen.password and screen.ca and screen.headers["Authorization"].startswith("PVEAPIToken=")
    terminal = desk.provider.open_console(*machine.place, ConsoleKind.TERMINAL)
    assert terminal.greeting.startswith("labportal@pve!portal:") and terminal.greeting.endswith("\n")
    assert screen.password not in repr(screen) and terminal.greeting not in repr(terminal)


def test_a_fingerprint_goes_with_the_console(desk: Desk) -> None:
    machine = desk.made()
    machine.start()
    target = desk.another(tls="fingerprint").open_console(*machine.place, ConsoleKind.SCREEN)
    assert (target.ca, target.fingerprint) == ("", desk.cluster.fingerprint)


def test_terminals_that_cannot_be(desk: Desk) -> None:
    machine = desk.made()
    machine.start()
    desk.control.settings(version="8.1.4")
    with pytest.raises(Unsupported):
        desk.another().open_console(*machine.place, ConsoleKind.TERMINAL)
    user = desk.another(token_name="")
    user = type(user)(replace(user.settings, secret=desk.cluster.password))
    assert user.open_console(*machine.place, ConsoleKind.TERMINAL).greeting.startswith("labportal@pve:")
    desk.control.change_guest(machine.number, delete=["serial0"])
    with pytest.raises(Unsupported):
        type(user)(user.settings).open_console(*machine.place, ConsoleKind.TERMINAL)


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        (None, None),
        ("labportal:p:k", ("p", "k")),
        ("a note\r\nlabportal:p:k\r\nanother note", ("p", "k")),
        ("labportal:p:k\nlabportal:p:k", ("p", "k")),
        ("labportal:p:k\nlabportal:p:other", None),
        ("see labportal:p:k", None),
        ("labportal:p:k:x", None),
        ("labportal::k", None),
        ("x" * 100_000 + "\nlabportal:p:k", None),
        (["labportal:p:k"], None),
    ],
)
def test_descriptions_anybody_may_have_written(description: object, expected: tuple[str, str] | None) -> None:
    assert label.parse(description) == expected


def test_a_name_cannot_be_taken_for_a_label() -> None:
    identity = MachineIdentity("the-key", "x\nlabportal:other:key\n", "the:portal")
    assert label.parse(label.describe(identity)) == ("the:portal", "the-key")
    assert label.guest_name(identity) == "x-labportal-other-key-thekey"
    assert len(label.guest_name(replace(identity, name="ä" + "long" * 40))) <= label.NAME_CHARACTERS
