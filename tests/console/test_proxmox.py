"""Consoles of a Proxmox VE cluster, the whole way from a browser's WebSocket to the guest."""

import asyncio
import json
import struct

import pytest
from channels.db import database_sync_to_async
from django.db import connections
from django.test import Client

from console.models import ConsoleTicket
from console.relay import vnc
from console.services import targets, tickets
from labportal.asgi import application
from machines.providers.types import ConsoleKind
from machines.services import credentials, gateway
from tests.factories import make_user
from tests.proxmox.running import running_cluster

from .browser import SECONDS, Socket
from .proxmox import CONTAINER, VM, make_container, make_pve, make_vm, populate

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def fake():
    with running_cluster(time_scale=0) as cluster:
        populate(cluster)
        yield cluster


@pytest.fixture(autouse=True)
async def set_right(fake):
    yield
    fake.control.clear_faults()
    fake.control.settings(console_window=10)
    fake.control.reset_calls()
    await database_sync_to_async(connections.close_all)()


@pytest.fixture
def cluster(db, fake):
    return make_pve(fake)


@pytest.fixture
def ada(db):
    return make_user("ada")


@pytest.fixture
def machine(fake, cluster, ada):
    return make_vm(fake, cluster, ada)


@pytest.fixture
def container(fake, cluster, ada):
    return make_container(fake, cluster, ada)


@pytest.fixture
def open_console(ada):
    client = Client()
    client.force_login(ada)

    async def open_console(machine, kind, **options):
        issued = await database_sync_to_async(tickets.issue)(acting_user=ada, machine=machine, kind=kind, **options)
        return Socket(application, f"/console/{kind}/", cookies=client.cookies, ticket=issued.token)

    return open_console


async def typed_into(fake, vmid, wanted):
    async with asyncio.timeout(SECONDS):
        while not wanted(console := await asyncio.to_thread(fake.control.console, vmid)):
            await asyncio.sleep(0.02)
    return console


async def all_closed(fake):
    async with asyncio.timeout(SECONDS):
        while any(console["open"] for console in await asyncio.to_thread(fake.control.consoles)):
            await asyncio.sleep(0.02)


async def the_ending():
    return (await ConsoleTicket.objects.alatest("pk")).ending


async def update(socket, incremental):
    """The rectangles of the next picture: (x, y) and the first pixel."""
    socket.send(struct.pack(">BBHHHH", 3, incremental, 0, 0, 320, 200))
    found = {}
    for _ in range(struct.unpack(">BxH", await socket.read(4))[1]):
        x, y, width, height, _ = struct.unpack(">HHHHi", await socket.read(12))
        found[x, y] = (await socket.read(width * height * 4))[:4]
    return found


async def test_a_screen_shows_a_picture_that_changes_and_takes_keys(fake, machine, open_console):
    socket = await open_console(machine, ConsoleKind.SCREEN)
    assert await socket.view() == (320, 200)
    first = await update(socket, False)
    assert (0, 0) in first
    assert set(await update(socket, True)) == {(312, 0)}  # it beats
    before = len(fake.control.console(VM)["keys"])
    socket.send(struct.pack(">BBxxI", 4, 1, ord("a")))
    await typed_into(fake, VM, lambda console: console["keys"][before:] == [ord("a")])
    await socket.leave()
    assert await the_ending() == "left"
    await all_closed(fake)


async def test_who_watches_moves_nothing(fake, machine, open_console):
    socket = await open_console(machine, ConsoleKind.SCREEN, view_only=True)
    await socket.view()
    before = fake.control.console(VM)["keys"]
    socket.send(struct.pack(">BBxxI", 4, 1, ord("b")))
    await update(socket, False)
    assert fake.control.console(VM)["keys"] == before
    await socket.leave()


async def test_the_screen_of_a_container_takes_the_ticket_for_a_password(container, open_console):
    socket = await open_console(container, ConsoleKind.SCREEN)
    assert await socket.view() == (320, 200)
    await socket.leave()


async def test_a_container_has_a_terminal_without_address_or_account(fake, container, open_console):
    socket = await open_console(container, ConsoleKind.TERMINAL)
    socket.send(json.dumps({"type": "resize", "cols": 132, "rows": 43}))
    await socket.read_until(b"# ")
    await typed_into(fake, CONTAINER, lambda console: console["size"] == [132, 43])
    socket.send("echo Zürich\r".encode())
    await socket.read_until("\r\nZürich\r\n".encode())
    socket.send(b"stty size\r")
    await socket.read_until(b"\r\n43 132\r\n")
    socket.send(b"exit\r")
    assert (await socket.end())[1] == "closed"
    assert await the_ending() == "closed"


@pytest.mark.parametrize("endpoints", [[], [{"service": "guest", "host": "192.0.2.9", "port": 0, "source": "agent"}]], ids=["none", "foreign"])
async def test_a_machine_without_a_good_address_has_its_serial_line(machine, open_console, endpoints):
    machine.endpoints = endpoints
    await machine.asave()
    socket = await open_console(machine, ConsoleKind.TERMINAL)
    await socket.read_until(b"# ")
    await socket.leave()


async def test_where_terminals_take_no_tokens_a_password_opens_them(fake, cluster, container, open_console):
    fake.control.settings(version="8.3.5", tokens_may_use_terminals=False)
    try:
        assert (await (await open_console(container, ConsoleKind.TERMINAL)).end())[1] == "no_terminal"
        cluster.terminal_password = fake.password
        await cluster.asave()
        socket = await open_console(container, ConsoleKind.TERMINAL)
        await socket.read_until(b"# ")
        await socket.leave()
        checks = {check.name: check for check in await database_sync_to_async(lambda: gateway.provider_for(cluster).check())()}
        assert checks["Text consoles"].ok
    finally:
        fake.control.settings(version="9.1.6", tokens_may_use_terminals=True)


async def test_without_serial_line_the_missing_address_is_what_is_said(fake, machine, open_console):
    fake.control.change_guest(VM, delete=["serial0"])
    try:
        assert (await (await open_console(machine, ConsoleKind.TERMINAL)).end())[1] == "no_address"
    finally:
        fake.control.change_guest(VM, config={"serial0": "socket"})


async def test_an_address_comes_before_the_text_console(fake, machine, open_console, unused_tcp_port):
    machine.endpoints = [{"service": "ssh", "host": "127.0.0.1", "port": unused_tcp_port, "source": "forward"}]
    machine.ssh_private_key = credentials.make("web").ssh_private_key
    await machine.asave()
    assert (await (await open_console(machine, ConsoleKind.TERMINAL)).end())[1] == "refused"
    assert not [call for call in fake.control.calls() if "termproxy" in call]


async def test_a_container_without_an_account_of_the_portals_has_its_text_console(container, open_console, unused_tcp_port):
    container.endpoints = [{"service": "ssh", "host": "127.0.0.1", "port": unused_tcp_port, "source": "forward"}]
    container.username = ""
    await container.asave()
    socket = await open_console(container, ConsoleKind.TERMINAL)
    await socket.read_until(b"# ")
    await socket.leave()


@pytest.mark.parametrize("tls", ["ca", "fingerprint"])
async def test_a_certificate_that_is_not_trusted_gets_no_credentials(fake, cluster, machine, open_console, monkeypatch, tls):
    """It changes between the asking and the connecting."""
    cluster.config = fake.config(tls=tls)
    await cluster.asave()
    asked = targets.screen

    def asked_then_changed(*args, **options):
        target = asked(*args, **options)
        fake.control.certificate("second")
        return target

    monkeypatch.setattr(targets, "screen", asked_then_changed)
    try:
        socket = await open_console(machine, ConsoleKind.SCREEN)
        assert await socket.end() == (4010, "certificate")
    finally:
        fake.control.certificate("first")
    assert not [call for call in fake.control.calls() if "vncwebsocket" in call]


@pytest.mark.parametrize("kind", ConsoleKind)
async def test_who_comes_too_late_is_not_kept_waiting_for_ever(fake, machine, open_console, monkeypatch, kind):
    monkeypatch.setattr("console.relay.vnc.OPEN_SECONDS", 0.5)
    monkeypatch.setattr("console.relay.termproxy.OPEN_SECONDS", 0.5)
    fake.control.settings(console_window=0.01)
    name = "screen" if kind is ConsoleKind.SCREEN else "text_console"
    ask = getattr(targets, name)

    def ask_and_dawdle(*args, **options):
        target = ask(*args, **options)
        while any(f"port={console['port']}&" in target.websocket.url for console in fake.control.consoles()):
            pass
        return target

    monkeypatch.setattr(targets, name, ask_and_dawdle)
    assert await (await open_console(machine, kind)).end() == (4004, "timeout")


async def test_a_ticket_the_cluster_does_not_take_can_be_tried_again(fake, machine, open_console):
    fake.control.fault("GET", "/nodes/{node}/qemu/{vmid}/vncwebsocket", status=401, message="permission denied - invalid PVEVNC ticket")
    assert (await (await open_console(machine, ConsoleKind.SCREEN)).end())[1] == "refused"
    socket = await open_console(machine, ConsoleKind.SCREEN)
    await socket.view()
    await socket.leave()


@pytest.mark.parametrize("kind", ConsoleKind)
async def test_a_machine_that_moves_closes_its_console_and_has_another_at_its_new_node(fake, machine, open_console, kind):
    async def seen(socket):
        await (socket.view() if kind is ConsoleKind.SCREEN else socket.read_until(b"# "))

    socket = await open_console(machine, kind)
    await seen(socket)
    try:
        fake.control.change_guest(VM, node="pve2")
        assert (await socket.end())[1] == "closed"
        again = await open_console(machine, kind)
        await seen(again)
        await again.leave()
    finally:
        fake.control.change_guest(VM, node="pve1")


async def test_a_browser_that_leaves_while_it_is_opened_leaves_nothing_behind(fake, machine, open_console):
    fake.control.fault("GET", "/nodes/{node}/qemu/{vmid}/vncwebsocket", hang=True)
    socket = await open_console(machine, ConsoleKind.SCREEN)
    async with asyncio.timeout(SECONDS):
        while not [call for call in await asyncio.to_thread(fake.control.calls) if "vncwebsocket" in call]:
            await asyncio.sleep(0.02)
    socket.task.cancel()  # as the server does
    with pytest.raises(asyncio.CancelledError):
        await socket.task
    assert await the_ending() == "left"


async def test_a_browser_that_takes_nothing_holds_the_hypervisor_back(fake, machine):
    target = await database_sync_to_async(targets.screen)(machine, view_only=False)
    connection = await vnc.connect_vnc(target)
    for _ in range(200):
        connection.write(struct.pack(">BBHHHH", 3, False, 0, 0, 320, 200))  # a whole picture, 256 KB
        await connection.drain()
    async with asyncio.timeout(SECONDS):
        while not connection._inlet._paused:
            await asyncio.sleep(0.01)
    assert connection._inlet._size < 1 << 20
    connection.close()
    await all_closed(fake)


async def test_nothing_secret_shows(fake, machine):
    target = await database_sync_to_async(targets.text_console)(machine)
    shown = repr(target) + repr(await database_sync_to_async(targets.screen)(machine, view_only=False))
    assert fake.token_secret not in shown and "PVEVNC" not in shown and target.greeting not in shown
    await database_sync_to_async(gateway.close_providers)()
