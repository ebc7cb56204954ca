"""Consoles of the fake: the handshake, the pictures and the framing that clients of a real cluster meet."""

import asyncio
import ssl
import struct
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .api import Api, until

MACHINE, CONTAINER = "/nodes/pve1/qemu/100001", "/nodes/pve1/lxc/100002"


@pytest.fixture(scope="module")
def api(cluster):
    with Api(cluster) as api:
        for vmid, template, kind in ((100001, 9000, "qemu"), (100002, 9100, "lxc")):
            assert api.clone(vmid, template, kind) == "OK"
            assert api.run("POST", f"/nodes/pve1/{kind}/{vmid}/status/start") == "OK"
        yield api


@pytest.fixture
async def opened(cluster, api):
    """Opens the WebSocket for what vncproxy or termproxy answered."""
    sockets = []

    async def opened(path, answer, *, endpoint=0, seconds=5, headers=cluster.authorization, **other):
        asked = urlencode({"port": answer["port"], "vncticket": answer["ticket"], **other})
        context = ssl.create_default_context(cafile=cluster.cafile)
        url = f"wss://{cluster.endpoints[endpoint]}/api2/json{path}/vncwebsocket?{asked}"
        socket = await connect(url, ssl=context, additional_headers=headers, compression=None, open_timeout=seconds, close_timeout=1, proxy=None)
        sockets.append(socket)
        return Stream(socket)

    yield opened
    for socket in sockets:
        await socket.close()


class Stream:
    def __init__(self, socket):
        self.socket, self.unread = socket, b""

    async def read(self, size):
        while len(self.unread) < size:
            self.unread += await asyncio.wait_for(self.socket.recv(), 10)
        data, self.unread = self.unread[:size], self.unread[size:]
        return data

    async def until(self, text):
        while text not in self.unread:
            self.unread += await asyncio.wait_for(self.socket.recv(), 10)
        data, self.unread = self.unread, b""
        return data

    async def send(self, data):
        await self.socket.send(data)

    async def log_in(self, password):
        """RFB up to SecurityResult."""
        assert await self.read(12) == b"RFB 003.008\n"
        await self.send(b"RFB 003.008\n")
        assert await self.read(2) == b"\x01\x02"
        await self.send(b"\x02")
        key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode()[:8].ljust(8, b"\0"))
        encryptor = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()
        await self.send(encryptor.update(await self.read(16)) + encryptor.finalize())
        return struct.unpack(">I", await self.read(4))[0]

    async def update(self, incremental):
        """Rectangles of the next framebuffer update: (x, y, width, height, pixels)."""
        await self.send(struct.pack(">BBHHHH", 3, incremental, 0, 0, 320, 200))
        rectangles = []
        for _ in range(struct.unpack(">BxH", await self.read(4))[1]):
            x, y, width, height, encoding = struct.unpack(">HHHHi", await self.read(12))
            assert encoding == 0
            rectangles.append((x, y, width, height, await self.read(width * height * 4)))
        return rectangles


async def test_a_screen_shows_what_is_typed(api, cluster, opened):
    answer = api.data("POST", MACHINE + "/vncproxy", websocket=1)
    assert answer["ticket"][8:].startswith(":PVEVNC:")
    screen = await opened(MACHINE, answer)
    assert await screen.log_in(answer["password"]) == 0
    await screen.send(b"\x01")
    width, height = struct.unpack(">HH", await screen.read(4))
    await screen.read(16)
    assert await screen.read(struct.unpack(">I", await screen.read(4))[0]) == b"clone-100001"
    ((_, _, whole_width, whole_height, pixels),) = await screen.update(incremental=0)
    assert (whole_width, whole_height) == (width, height) == (320, 200)
    assert pixels[:4] == bytes((48, 16, 16, 0))
    await screen.send(struct.pack(">BBxxI", 4, 1, ord("a")))
    cells = {}
    while (0, 16) not in cells:  # the beating square may come first
        cells = {(x, y): pixels for x, y, _, _, pixels in await screen.update(incremental=1)}
    assert cells[0, 16][:4] == bytes((0, 255 - ord("a"), ord("a"), 0))
    assert cluster.control.console(100001)["keys"] == [ord("a")]
    assert (await screen.update(incremental=1))[0][:2] == (312, 0)
    assert api.status(answer["upid"])["status"] == "running"
    await screen.socket.close()
    assert api.exit_status(answer["upid"]) == "OK"


async def test_a_wrong_password_is_refused(api, opened):
    screen = await opened(MACHINE, api.data("POST", MACHINE + "/vncproxy", websocket=1))
    assert await screen.log_in("nonsense") == 1
    assert await screen.read(struct.unpack(">I", await screen.read(4))[0]) == b"Authentication failed"


async def test_two_screens_of_one_machine_and_one_of_a_container(api, opened):
    first, second = (api.data("POST", MACHINE + "/vncproxy", websocket=1) for _ in range(2))
    assert first["port"] != second["port"]
    container = api.data("POST", CONTAINER + "/vncproxy", websocket=1)
    assert "password" not in container
    assert await (await opened(MACHINE, first)).log_in(first["password"]) == 0
    assert await (await opened(MACHINE, second)).log_in(second["password"]) == 0
    assert await (await opened(CONTAINER, container)).log_in(container["ticket"]) == 0


@pytest.mark.parametrize("path", [MACHINE, CONTAINER])
@pytest.mark.parametrize("frames", [bytes, bytes.decode], ids=["binary", "text"])
async def test_a_terminal_answers_in_raw_bytes(api, cluster, opened, path, frames):
    answer = api.data("POST", path + "/termproxy")
    assert answer["user"] == "labportal@pve!portal"
    terminal = await opened(path, answer)
    await terminal.send(frames(f"{answer['user']}:{answer['ticket']}\n".encode()))
    assert await terminal.read(2) == b"OK"
    await terminal.until(b"# ")
    await terminal.send(frames(b"1:100:40:"))
    await terminal.send(frames(b"2"))
    await terminal.send(frames(b"0:6:whoam"))  # a message may come in pieces
    await terminal.send(frames(b"i0:1:\r"))
    assert b"\r\nroot\r\n" in await terminal.until(b"root\r\n")
    await terminal.send(frames("0:19:echo grüße; stty\r".encode()))
    await terminal.until("grüße; stty\r\n".encode())
    await terminal.send(frames(b"0:5:stty\r"))
    assert b"40 100" in await terminal.until(b"40 100")
    assert cluster.control.console(100001 if path == MACHINE else 100002)["size"] == [100, 40]
    await terminal.send(frames(b"0:5:exit\r"))
    with pytest.raises(ConnectionClosed):
        await terminal.until(b"never")


async def test_a_wrong_login_closes_the_terminal(api, opened):
    terminal = await opened(CONTAINER, api.data("POST", CONTAINER + "/termproxy"))
    await terminal.send(b"labportal@pve!portal:wrong\n")
    with pytest.raises(ConnectionClosed):
        await terminal.read(2)


async def test_a_ticket_is_good_for_its_port_guest_and_user(api, cluster, opened):
    answer = api.data("POST", MACHINE + "/vncproxy", websocket=1)
    secret = cluster.control.add_token(cluster.user, "other", privsep=False)
    others = {"Authorization": f"PVEAPIToken={cluster.user}!other={secret}"}
    for path, more in ((MACHINE, {"port": "5999"}), (CONTAINER, {}), (MACHINE, {"headers": others}), (MACHINE, {"vncticket": "x"})):
        with pytest.raises(InvalidStatus) as refused:
            await opened(path, answer, **more)
        assert refused.value.response.status_code == 401
    assert await (await opened(MACHINE, answer)).log_in(answer["password"]) == 0


async def test_late_twice_or_elsewhere_the_handshake_hangs(api, cluster, opened):
    used = api.data("POST", MACHINE + "/vncproxy", websocket=1)
    await opened(MACHINE, used)
    with pytest.raises(TimeoutError):
        await opened(MACHINE, used, seconds=0.3)
    with pytest.raises(TimeoutError):
        await opened(MACHINE, api.data("POST", MACHINE + "/vncproxy", websocket=1), endpoint=1, seconds=0.3)
    cluster.control.settings(console_window=0.05)
    late = api.data("POST", MACHINE + "/vncproxy", websocket=1)
    cluster.control.settings(console_window=10)
    assert api.exit_status(late["upid"]) == "connection timed out"
    with pytest.raises(TimeoutError):
        await opened(MACHINE, late, seconds=0.3)


async def test_a_console_ends_with_the_power_and_with_a_move(api, cluster, opened):
    for change, back in (({"status": "stopped"}, {"status": "running"}), ({"node": "pve2"}, {"node": "pve1"})):
        answer = api.data("POST", MACHINE + "/vncproxy", websocket=1)
        screen = await opened(MACHINE, answer)
        assert await screen.log_in(answer["password"]) == 0
        cluster.control.change_guest(100001, **change)
        with pytest.raises(ConnectionClosed):
            await screen.read(1)
        cluster.control.change_guest(100001, **back)


async def test_a_screen_of_a_machine_that_is_off_closes_at_once(api, cluster, opened):
    cluster.control.change_guest(100001, status="stopped")
    answer = api.data("POST", MACHINE + "/vncproxy", websocket=1)
    with pytest.raises(ConnectionClosed):
        await (await opened(MACHINE, answer)).read(1)
    assert api.exit_status(answer["upid"]) == "Failed to run vncproxy."
    cluster.control.change_guest(100001, status="running")


async def test_no_console_stays_behind(cluster, api):
    until(lambda: not any(console["open"] for console in cluster.control.consoles()), seconds=5)
