"""Opening shells: host keys, credentials, and every way to fail within bounds."""

import asyncio

import asyncssh
import pytest

from console.relay import ssh
from console.relay.endings import Ending, RelayError
from console.relay.flow import HIGH_WATER
from console.relay.ssh import SshTarget, open_ssh
from tests.console.relay.browser import until

from .ssh_server import HOST_KEY, PASSWORD, USER_KEY, USERNAME, public, running, silent

OTHER_KEYS = [asyncssh.generate_private_key(kind) for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256")]


def target(port, **options):
    return SshTarget("127.0.0.1", port, USERNAME, **{"password": PASSWORD, **options})


async def test_a_shell_with_a_key_on_a_terminal_of_the_right_size():
    key = USER_KEY.export_private_key().decode()
    async with running() as (port, shells):
        session = await open_ssh(target(port, password="", private_key=key), 132, 43)
        assert shells[0].sizes == [(132, 43)]
        assert shells[0].term_type == ssh.TERMINAL_TYPE
        session.write("hé\n".encode())
        assert await session.read() == "hé\n".encode()
        session.resize(80, 24)
        await until(lambda: shells[0].sizes[-1] == (80, 24))
        assert session.exit_status is None
        session.close()
        assert await session.read() == b""
        session.write(b"late")  # harmless
        session.resize(1, 1)
        session.close()


async def test_the_shell_ends_with_a_status():
    async with running() as (port, _):
        for command, status in ((b"exit\n", 7), (b"kill\n", -15)):
            session = await open_ssh(target(port), 80, 24)
            session.write(command)
            assert await session.read() == b""
            assert session.exit_status == status
            session.close()


async def test_the_first_contact_tells_the_host_key_and_later_ones_insist_on_it():
    async with running() as (port, _):
        session = await open_ssh(target(port), 80, 24)
        assert session.host_key == public(HOST_KEY)
        session.close()
        (await open_ssh(target(port, host_key=session.host_key), 80, 24)).close()
        for other in OTHER_KEYS:
            with pytest.raises(RelayError) as caught:
                await open_ssh(target(port, host_key=public(other)), 80, 24)
            assert caught.value.code is Ending.HOST_KEY


async def test_the_pinned_key_is_found_among_several():
    async with running(server_host_keys=[*OTHER_KEYS[1:], HOST_KEY]) as (port, _):
        (await open_ssh(target(port, host_key=public(HOST_KEY)), 80, 24)).close()


async def test_a_wrong_password():
    async with running() as (port, _):
        with pytest.raises(RelayError) as caught:
            await open_ssh(target(port, password="wrong"), 80, 24)
        assert caught.value.code is Ending.LOGIN
        assert "wrong" not in str(caught.value) + repr(target(port, password="wrong"))


@pytest.mark.parametrize(
    "greeting, hangs_up, ending",
    [(b"", False, Ending.TIMEOUT), (b"SSH-2.0-slow\r\n", False, Ending.TIMEOUT), (b"", True, Ending.REFUSED), (b"x" * 20000, False, Ending.PROTOCOL)],
)
async def test_what_is_no_ssh_server(greeting, hangs_up, ending, monkeypatch):
    monkeypatch.setattr(ssh, "OPEN_SECONDS", 0.3)
    async with silent(greeting, hangs_up) as port:
        with pytest.raises(RelayError) as caught:
            await open_ssh(target(port), 80, 24)
        assert caught.value.code is ending


async def test_nothing_listens(unused_tcp_port):
    with pytest.raises(RelayError) as caught:
        await open_ssh(target(unused_tcp_port), 80, 24)
    assert caught.value.code is Ending.REFUSED


async def test_a_key_that_is_none():
    async with running() as (port, _):
        for wrong in ({"private_key": "no key"}, {"host_key": "ssh-ed25519 AAAA"}):
            with pytest.raises(RelayError) as caught:
                await open_ssh(target(port, **wrong), 80, 24)
            assert caught.value.code is Ending.PROTOCOL


async def test_a_flood_is_held_back_at_its_source():
    async with running() as (port, shells):
        session = await open_ssh(target(port), 80, 24)
        session.write(b"flood\n")
        await until(lambda: session._inlet._paused)
        # The window is as large as what is held here; what the shell wrote beyond waits over there.
        await until(lambda: not shells[0].writable)
        assert session._inlet._size <= 2 * HIGH_WATER
        held = shells[0].flooded
        assert held < 4 * HIGH_WATER
        await session.read()
        await until(lambda: shells[0].flooded > held)
        session.close()


async def test_a_shell_that_takes_nothing_makes_writers_wait(monkeypatch):
    monkeypatch.setattr("console.relay.flow.STALL_SECONDS", 0.2)
    async with running(window=65536) as (port, _):
        session = await open_ssh(target(port), 80, 24)
        session.write(b"stop\n")
        with pytest.raises(RelayError) as caught:
            async with asyncio.timeout(5):
                while True:
                    session.write(bytes(65536))
                    await session.drain()
        assert caught.value.code is Ending.TOO_SLOW
        assert session._channel.get_write_buffer_size() <= HIGH_WATER + 65536
        session.close()
