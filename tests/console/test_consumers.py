"""Opening a console: who gets in, what ends it, and what the browser is told."""

import asyncio
import contextlib
import json
import threading

import asyncssh
import pytest
from channels.db import database_sync_to_async
from django.db import connections
from django.test import Client

from accounts.models import AuditEntry
from console import consumers
from console.models import ConsoleTicket
from console.services import targets, tickets
from labportal.asgi import application
from machines.lifecycle import State
from machines.models import Machine
from machines.providers.errors import NotRunning, Unreachable, Unsupported
from machines.providers.types import ConsoleKind, ConsoleTarget
from machines.services import addresses, credentials
from tests.factories import make_cluster, make_machine, make_user

from .browser import SECONDS, Socket
from .relay.vnc_server import VncServer, running

pytestmark = pytest.mark.django_db(transaction=True)

SCREEN, TERMINAL = "/console/screen/", "/console/terminal/"


@pytest.fixture(autouse=True)
async def connections_closed():
    """The thread that coroutines reach the database by keeps its connection, and PostgreSQL then its test database."""
    yield
    await database_sync_to_async(connections.close_all)()


@pytest.fixture
def ada(db):
    return make_user("ada")


@pytest.fixture
def machine(ada):
    made = credentials.make("web")
    return make_machine("web", owner=ada, state=State.RUNNING, ssh_private_key=made.ssh_private_key, ssh_public_key=made.ssh_public_key)


@pytest.fixture
def cookies(ada):
    client = Client()
    client.force_login(ada)
    return client.cookies


@pytest.fixture
def screen_ticket(ada, machine):
    return tickets.issue(acting_user=ada, machine=machine, kind=ConsoleKind.SCREEN).token


@pytest.fixture
def terminal_ticket(ada, machine):
    return tickets.issue(acting_user=ada, machine=machine, kind=ConsoleKind.TERMINAL).token


class Hypervisor:
    """A provider that opens the screen it is given, or fails as it is told."""

    def __init__(self):
        self.answer = None
        self.asked = []

    def open_console(self, identity, ref, kind):
        self.asked.append((identity.key, ref, kind))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def hypervisor(monkeypatch):
    hypervisor = Hypervisor()
    monkeypatch.setattr(targets.gateway, "provider_for", lambda cluster: hypervisor)
    return hypervisor


@contextlib.asynccontextmanager
async def vnc_server(hypervisor):
    """The least that is a VNC server: 640 × 480, no password; collects what viewers send."""
    received, gone = bytearray(), asyncio.Event()
    writers = []

    async def serve(reader, writer):
        writers.append(writer)
        writer.write(b"RFB 003.008\n")
        await reader.readexactly(12)
        writer.write(b"\x01\x01")
        await reader.readexactly(1)
        writer.write(b"\0\0\0\0")
        await reader.readexactly(1)
        writer.write(b"\x02\x80\x01\xe0" + bytes(16) + b"\0\0\0\x04tiny")
        while data := await reader.read(4096):
            received.extend(data)
        gone.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    hypervisor.answer = ConsoleTarget(ConsoleKind.SCREEN, "127.0.0.1", server.sockets[0].getsockname()[1])
    server.received, server.gone, server.viewers = received, gone, writers
    try:
        yield server
    finally:
        for writer in writers:
            writer.close()
        server.close()
        await server.wait_closed()


class Guest(asyncssh.SSHServer):
    def __init__(self, username, public_key):
        self.username, self.public_key = username, asyncssh.import_public_key(public_key)

    def begin_auth(self, username):
        return True

    def public_key_auth_supported(self):
        return True

    def validate_public_key(self, username, key):
        return username == self.username and key == self.public_key


async def _shell(process):
    process.stdout.write(f"size {process.get_terminal_size()[:2]}\n")
    while True:
        try:
            line = await process.stdin.readline()
        except asyncssh.TerminalSizeChanged as change:
            process.stdout.write(f"size {(change.width, change.height)}\n")
            continue
        if not line or line.strip() == "exit":
            break
        process.stdout.write(f"echo {line}")
    process.exit(3)


@contextlib.asynccontextmanager
async def ssh_server(machine, *, key=None, source="forward", host="127.0.0.1"):
    key = key or asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(
        lambda: Guest(machine.username, machine.ssh_public_key), "127.0.0.1", 0, server_host_keys=[key], process_factory=_shell, line_editor=False
    )
    endpoint = {"service": "ssh", "host": host, "port": server.get_port(), "source": source}
    await Machine.objects.filter(pk=machine.pk).aupdate(endpoints=[endpoint])
    server.key_line = key.export_public_key().decode().strip()
    try:
        yield server
    finally:
        server.close()
        await server.wait_closed()


async def the_record():
    return await ConsoleTicket.objects.aget()


# -- the way in ---------------------------------------------------------------------------------


async def test_a_screen_opens_and_carries_both_ways(cookies, machine, screen_ticket, hypervisor):
    async with vnc_server(hypervisor) as server:
        socket = Socket(application, SCREEN, cookies=cookies, ticket=screen_ticket)
        assert await socket.view() == (640, 480)
        assert socket.accepted == consumers.SUBPROTOCOL  # and not the ticket
        socket.send(b"\x04\x01\0\0\0\0\0a")
        server.viewers[0].write(b"pixels")
        assert await socket.read(6) == b"pixels"
        await socket.leave()
        await asyncio.wait_for(server.gone.wait(), 10)
        assert bytes(server.received).endswith(b"\x04\x01\0\0\0\0\0a")
    assert hypervisor.asked == [(str(machine.key), machine.ref, ConsoleKind.SCREEN)]
    record = await the_record()
    assert record.ended_at and record.ending == "left"
    entry = await AuditEntry.objects.aget(action="console.open")
    assert (entry.address, entry.data["kind"]) == ("192.0.2.7", "screen")


async def test_a_view_only_ticket_lets_no_key_through(ada, cookies, machine, hypervisor):
    issued = await database_sync_to_async(tickets.issue)(acting_user=ada, machine=machine, kind=ConsoleKind.SCREEN, view_only=True)
    async with vnc_server(hypervisor) as server:
        socket = Socket(application, SCREEN, cookies=cookies, ticket=issued.token)
        await socket.view()
        key, update = b"\x04\x01\0\0\0\0\0a", b"\x03\x01\0\0\0\0\x02\x80\x01\xe0"
        socket.send(key + update)
        async with asyncio.timeout(10):
            while update not in server.received:
                await asyncio.sleep(0)
        assert key not in server.received
        await socket.leave()


@pytest.mark.parametrize("path", [SCREEN, TERMINAL])
@pytest.mark.parametrize("origin", ["https://evil.test", "null", None])
async def test_a_page_of_another_site_gets_nothing(cookies, screen_ticket, hypervisor, path, origin):
    socket = Socket(application, path, cookies=cookies, ticket=screen_ticket, origin=origin)
    await socket.end()
    assert socket.rejected
    assert (await the_record()).used_at is None


@pytest.mark.parametrize("subprotocols", [[], ["labportal.console"], ["ticket.x"], ["binary"], ["ticket."]])
async def test_without_name_and_ticket_there_is_no_socket(cookies, machine, hypervisor, subprotocols):
    socket = Socket(application, SCREEN, cookies=cookies, subprotocols=subprotocols)
    await socket.end()
    assert socket.rejected


async def test_who_is_not_signed_in_is_told_so(screen_ticket, hypervisor):
    assert (await Socket(application, SCREEN, ticket=screen_ticket).end())[1] == "signed_out"
    assert (await the_record()).used_at is None


async def test_somebody_elses_ticket_is_refused(screen_ticket, hypervisor):
    client = await database_sync_to_async(Client)()
    await database_sync_to_async(lambda: client.force_login(make_user("eve")))()
    assert (await Socket(application, SCREEN, cookies=client.cookies, ticket=screen_ticket).end())[1] == "ticket"
    assert hypervisor.asked == []


async def test_a_ticket_of_the_other_kind_is_refused(cookies, screen_ticket, terminal_ticket, hypervisor):
    assert (await Socket(application, TERMINAL, cookies=cookies, ticket=screen_ticket).end())[1] == "ticket"
    assert (await Socket(application, SCREEN, cookies=cookies, ticket=terminal_ticket).end())[1] == "ticket"
    assert hypervisor.asked == []


async def test_a_ticket_opens_nothing_twice(cookies, screen_ticket, hypervisor):
    async with vnc_server(hypervisor):
        socket = Socket(application, SCREEN, cookies=cookies, ticket=screen_ticket)
        await socket.view()
        assert (await Socket(application, SCREEN, cookies=cookies, ticket=screen_ticket).end())[1] == "ticket"
        await socket.leave()
    assert len(hypervisor.asked) == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (NotRunning(), "machine_off"),
        (Unsupported(), "no_screen"),
        (Unreachable(), "unreachable"),
        (ConsoleTarget(ConsoleKind.SCREEN, "127.0.0.1", 1), "refused"),
    ],
)
async def test_a_screen_that_cannot_be_opened_says_why(cookies, machine, screen_ticket, hypervisor, fault, code):
    hypervisor.answer = fault
    assert (await Socket(application, SCREEN, cookies=cookies, ticket=screen_ticket).end())[1] == code
    record = await the_record()
    assert (bool(record.ended_at), record.ending) == (True, code)


async def test_viewers_who_come_together_and_change_the_password_under_each_other_all_get_in(cookies, machine, screen_ticket, hypervisor):
    async with running(VncServer()) as target:
        passwords = iter(["another's", target.password])
        hypervisor.open_console = lambda identity, ref, kind: ConsoleTarget(kind, target.host, target.port, password=next(passwords))
        socket = Socket(application, SCREEN, cookies=cookies, ticket=screen_ticket)
        assert await socket.view() == (16, 16)
        await socket.leave()


async def test_a_cluster_that_does_not_answer_keeps_no_other_waiting(ada, cookies, machine, screen_ticket, hypervisor, monkeypatch):
    answers = threading.Event()

    class Dead:
        asked = 0

        def open_console(self, identity, ref, kind):
            self.asked += 1
            answers.wait(60)
            raise Unreachable

    dead = Dead()
    monkeypatch.setattr(targets.gateway, "provider_for", lambda cluster: hypervisor if cluster.pk == machine.cluster_id else dead)
    make = database_sync_to_async(lambda: make_machine("far", owner=ada, state=State.RUNNING, cluster=make_cluster("far away")))
    issue = database_sync_to_async(tickets.issue)
    far = await make()
    waiting = [
        Socket(application, SCREEN, cookies=cookies, ticket=(await issue(acting_user=ada, machine=far, kind=ConsoleKind.SCREEN)).token)
        for _ in range(consumers.OPENERS + 1)
    ]
    try:
        async with asyncio.timeout(SECONDS):
            while dead.asked < consumers.OPENERS:
                await asyncio.sleep(0)
        async with vnc_server(hypervisor):
            socket = Socket(application, SCREEN, cookies=cookies, ticket=screen_ticket)
            assert await socket.view() == (640, 480)
            await socket.leave()
    finally:
        answers.set()
    assert [(await socket.end())[1] for socket in waiting] == ["unreachable"] * len(waiting)


async def test_the_machine_went_off_between_ticket_and_socket(cookies, machine, screen_ticket, hypervisor):
    await Machine.objects.aupdate(state=State.STOPPED, power="off")
    assert (await Socket(application, SCREEN, cookies=cookies, ticket=screen_ticket).end())[1] == "machine_off"
    assert hypervisor.asked == []


# -- while it is open -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"state": State.STOPPED, "power": "off"}, "machine_off"),
        ({"owner": None}, "revoked"),
        ({"state": State.DESTROYED}, "revoked"),
    ],
)
async def test_rights_that_end_end_the_console(cookies, machine, screen_ticket, hypervisor, monkeypatch, change, told):
    monkeypatch.setattr(consumers.rights, "seconds", 0.05)
    async with vnc_server(hypervisor) as server:
        socket = Socket(application, SCREEN, cookies=cookies, ticket=screen_ticket)
        await socket.view()
        await Machine.objects.aupdate(**change)
        code, reason = await socket.end()
        assert reason == told and code >= 4000
        await asyncio.wait_for(server.gone.wait(), 10)
    assert (await the_record()).ending == told


@pytest.mark.parametrize("kind", ["signs out", "is switched off"])
async def test_a_person_who_goes_ends_the_console(ada, cookies, machine, screen_ticket, hypervisor, monkeypatch, kind):
    monkeypatch.setattr(consumers.rights, "seconds", 0.05)
    async with vnc_server(hypervisor):
        socket = Socket(application, SCREEN, cookies=cookies, ticket=screen_ticket)
        await socket.view()
        if kind == "signs out":
            client = Client()
            client.cookies = cookies
            await database_sync_to_async(client.logout)()
        else:
            await type(ada).objects.aupdate(is_active=False)
        assert (await socket.end())[1] == "revoked"


async def test_a_database_that_does_not_answer_ends_nothing(cookies, machine, screen_ticket, hypervisor, monkeypatch):
    monkeypatch.setattr(consumers.rights, "seconds", 0.01)
    looked, loop = asyncio.Event(), asyncio.get_running_loop()

    def fail(*args, **options):
        loop.call_soon_threadsafe(looked.set)
        raise OSError("the database is away")

    monkeypatch.setattr(consumers.rights, "look", fail)
    async with vnc_server(hypervisor) as server:
        socket = Socket(application, SCREEN, cookies=cookies, ticket=screen_ticket)
        await socket.view()
        await asyncio.wait_for(looked.wait(), 10)
        server.viewers[0].write(b"still here")
        assert await socket.read(10) == b"still here"
        await socket.leave()


# -- terminals ------------------------------------------------------------------------------------


async def test_a_terminal_opens_echoes_resizes_and_exits(cookies, machine, terminal_ticket):
    async with ssh_server(machine) as server:
        socket = Socket(application, TERMINAL, cookies=cookies, ticket=terminal_ticket)
        socket.send(json.dumps({"type": "resize", "cols": 132, "rows": 43}))
        await socket.read_until(b"size (132, 43)")
        socket.send("Zürich\n".encode())
        await socket.read_until("echo Zürich\n".encode())
        socket.send(b"exit\n")
        assert (await socket.end())[1] == "exited"
        assert json.loads(socket.texts[-1]) == {"type": "exit", "status": 3}
        await machine.arefresh_from_db()
        assert machine.ssh_host_key == server.key_line


async def test_the_host_key_is_pinned_at_the_first_contact(ada, cookies, machine, terminal_ticket):
    async with ssh_server(machine):
        socket = Socket(application, TERMINAL, cookies=cookies, ticket=terminal_ticket)
        await socket.read_until(b"size (80, 24)")
        await socket.leave()
    again = await database_sync_to_async(tickets.issue)(acting_user=ada, machine=machine, kind=ConsoleKind.TERMINAL)
    async with ssh_server(machine):  # the same address, another key
        assert (await Socket(application, TERMINAL, cookies=cookies, ticket=again.token).end())[1] == "host_key"


async def test_of_two_first_contacts_that_see_two_keys_one_is_refused(cookies, machine, terminal_ticket, monkeypatch):
    """Another web process pins its key while this one is still connecting."""
    open_ssh = consumers.open_ssh

    async def slow(target, cols, rows):
        session = await open_ssh(target, cols, rows)
        await Machine.objects.aupdate(ssh_host_key="ssh-ed25519 AAAA another")
        return session

    monkeypatch.setattr(consumers, "open_ssh", slow)
    async with ssh_server(machine):
        socket = Socket(application, TERMINAL, cookies=cookies, ticket=terminal_ticket)
        assert (await socket.end())[1] == "host_key"
        assert not socket.texts
    await machine.arefresh_from_db()
    assert machine.ssh_host_key == "ssh-ed25519 AAAA another"


async def test_a_machine_that_does_not_take_the_key_is_named(cookies, machine, terminal_ticket):
    await Machine.objects.aupdate(username="root")
    async with ssh_server(machine):
        assert (await Socket(application, TERMINAL, cookies=cookies, ticket=terminal_ticket).end())[1] == "login"


@pytest.mark.parametrize("source", ["agent", "lease", "arp"])
@pytest.mark.parametrize("claim", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost", "0.0.0.0"])
async def test_a_guest_cannot_send_the_portal_to_itself(cookies, machine, terminal_ticket, monkeypatch, source, claim):
    async with ssh_server(machine, source=source, host=claim) as server:
        monkeypatch.setattr(addresses, "SSH_PORT", server.get_port())
        await type(machine.cluster).objects.aupdate(networks=["0.0.0.0/0", "::/0"])
        assert (await Socket(application, TERMINAL, cookies=cookies, ticket=terminal_ticket).end())[1] == "foreign_address"
    await machine.arefresh_from_db()
    assert machine.ssh_host_key == ""


async def test_a_machine_without_address_is_waited_for(cookies, machine, terminal_ticket):
    assert (await Socket(application, TERMINAL, cookies=cookies, ticket=terminal_ticket).end())[1] == "no_address"
