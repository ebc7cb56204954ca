"""The machine's side of a terminal: a shell over SSH."""

import asyncio
from dataclasses import dataclass, field

import asyncssh

from .endings import Ending, RelayError
from .flow import HIGH_WATER, Flow

OPEN_SECONDS = 15  # TCP, banner, log-in and shell together
KEEPALIVE_SECONDS = 15  # three unanswered ones end the connection
TERMINAL_TYPE = "xterm-256color"

# AES-GCM costs less than asyncssh's own first choice on any processor with AES instructions.
_CIPHERS = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr", "aes128-ctr"]
# Plain keys only: what is seen is pinned, and the key inside a certificate would not be.
_HOST_KEY_TYPES = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256"]


@dataclass(frozen=True, slots=True)
class SshTarget:
    """Where a shell is, and how to get in. Never leaves the server.

    `private_key` is PEM or OpenSSH text without passphrase; empty: the password alone.
    `host_key` is one line as in authorized_keys; None takes whatever key answers, so that the
    caller can pin `SshSession.host_key`.
    """

    host: str
    port: int
    username: str
    private_key: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    host_key: str | None = None


class SshSession(Flow, asyncssh.SSHClientSession[bytes]):
    """A shell on a pseudo-terminal. See `flow.Terminal`."""

    host_key: str  # the key that answered, one line as in authorized_keys

    @property
    def exit_status(self) -> int | None:
        """What the shell left with: 0 to 255, minus the signal's number, or None when it has not ended by itself."""
        return self._channel.get_returncode()

    def write(self, data: bytes) -> None:
        if not self._channel.is_closing():
            self._channel.write(data)

    def resize(self, cols: int, rows: int) -> None:
        if not self._channel.is_closing():
            self._channel.change_terminal_size(cols, rows)

    def close(self) -> None:
        self._connection.abort()

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._source = self._channel = chan
        self._connection = chan.get_connection()
        chan.set_write_buffer_limits(high=HIGH_WATER)


async def open_ssh(target: SshTarget, cols: int, rows: int) -> SshSession:
    """Log in and start a shell on a terminal of that size, within 15 s.

    Raises RelayError: REFUSED (nothing listens, or it hung up), TIMEOUT (no banner, no answer),
    HOST_KEY, LOGIN, PROTOCOL (no SSH server, no common algorithms, no shell, a broken key).
    """
    connection: asyncssh.SSHClientConnection | None = None
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            connection = await _connect(target)
            _, session = await connection.create_session(SshSession, term_type=TERMINAL_TYPE, term_size=(cols, rows), encoding=None, window=HIGH_WATER)
            assert isinstance(session, SshSession)
            host_key = connection.get_server_host_key()
            assert host_key is not None
            session.host_key = host_key.export_public_key().decode().strip()
            return session
    except BaseException as error:
        if connection is not None:
            connection.abort()
        if (ending := _ending(error, target.host_key is not None)) is None:
            raise
        raise RelayError(ending, f"SSH: {error}" if str(error) else f"SSH: no answer in {OPEN_SECONDS} s") from error


async def _connect(target: SshTarget) -> asyncssh.SSHClientConnection:
    pinned = asyncssh.import_public_key(target.host_key) if target.host_key else None
    return await asyncssh.connect(
        target.host,
        target.port,
        username=target.username,
        password=target.password or None,
        client_keys=[asyncssh.import_private_key(target.private_key)] if target.private_key else None,
        known_hosts=([pinned], [], []) if pinned else None,
        server_host_key_algs=() if pinned else _HOST_KEY_TYPES,
        encryption_algs=_CIPHERS,
        compression_algs=None,
        keepalive_interval=KEEPALIVE_SECONDS,
        login_timeout=OPEN_SECONDS,
        # Nothing of the account that the portal runs under: no agent, no files.
        config=None,
        agent_path=None,
        x509_trusted_certs=None,
        gss_host=None,
    )


def _ending(error: BaseException, pinned: bool) -> Ending | None:
    match error:
        case TimeoutError():
            return Ending.TIMEOUT
        case asyncssh.HostKeyNotVerifiable():
            return Ending.HOST_KEY
        case asyncssh.KeyExchangeFailed() if pinned and "host key" in error.reason:
            return Ending.HOST_KEY
        case asyncssh.PermissionDenied():
            return Ending.LOGIN
        # A forwarded port takes the connection even while nothing listens in the guest, and then drops it.
        case asyncssh.ConnectionLost() | OSError():
            return Ending.REFUSED
        case asyncssh.Error() | asyncssh.KeyImportError():
            return Ending.PROTOCOL
    return None
