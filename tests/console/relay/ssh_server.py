"""An SSH server in this process, whose shell does what the test says."""

from contextlib import asynccontextmanager

import asyncssh

from .listening import listening

USERNAME = "student"
PASSWORD = "open sesame"
HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")
USER_KEY = asyncssh.generate_private_key("ssh-ed25519")


def public(key):
    return key.export_public_key().decode().strip()


class Login(asyncssh.SSHServer):
    def begin_auth(self, username):
        return True

    def password_auth_supported(self):
        return True

    def validate_password(self, username, password):
        return (username, password) == (USERNAME, PASSWORD)

    def public_key_auth_supported(self):
        return True

    def validate_public_key(self, username, key):
        return username == USERNAME and key == USER_KEY.convert_to_public()


class Shell(asyncssh.SSHServerSession):
    """Echoes. `exit` ends it with status 7, `flood` sends without end, `stop` takes nothing any more."""

    def connection_made(self, chan):
        self.chan = chan
        self.sizes = []
        self.flooded = 0
        self.writable = True

    def pty_requested(self, term_type, term_size, term_modes):
        self.term_type = term_type
        self.sizes.append(term_size[:2])
        return True

    def shell_requested(self):
        return True

    def terminal_size_changed(self, width, height, pixwidth, pixheight):
        self.sizes.append((width, height))

    def data_received(self, data, datatype):
        match data.rstrip(b"\n"):
            case b"exit":
                self.chan.exit(7)
            case b"kill":
                self.chan.exit_with_signal("TERM")
            case b"flood":
                self._flood()
            case b"stop":
                self.chan.pause_reading()
            case b"drop":
                self.chan.get_connection().abort()
            case _:
                self.chan.write(data)

    def pause_writing(self):
        self.writable = False

    def resume_writing(self):
        self.writable = True
        self._flood()

    def _flood(self):
        while self.writable and not self.chan.is_closing():
            self.chan.write(bytes(32768))
            self.flooded += 32768


@asynccontextmanager
async def running(**options):
    """The port of a server and the list of the shells it has started."""
    shells = []

    class Server(Login):
        def session_requested(self):
            shells.append(Shell())
            return shells[-1]

    listener = await asyncssh.create_server(Server, "127.0.0.1", 0, encoding=None, line_editor=False, **{"server_host_keys": [HOST_KEY], **options})
    try:
        yield listener.sockets[0].getsockname()[1], shells
    finally:
        listener.close()
        await listener.wait_closed()


@asynccontextmanager
async def silent(greeting=b"", hangs_up=False):
    """The port of something that is no SSH server: it says `greeting` and waits, or hangs up."""

    async def serve(reader, writer):
        writer.write(greeting)
        if not hangs_up:
            await reader.read()
        writer.close()

    async with listening(serve) as port:
        yield port
