"""The Remote Framebuffer protocol (RFC 6143) as far as a relay must know it: both handshakes, and what a viewer may send."""

from collections.abc import Awaitable, Callable

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from .endings import Ending, RelayError
from .flow import Exactly

VERSION = b"RFB 003.008\n"
SHARED = b"\x01"  # ClientInit: leave the others connected

_NONE = 1
_VNC_AUTHENTICATION = 2
_REASON_LIMIT = 4096


async def log_in(server: Exactly, write: Callable[[bytes], None], password: str) -> None:
    """Be a viewer up to the end of the security handshake: the next bytes are ClientInit.

    Knows 3.3, 3.7 and 3.8 with no authentication or VNC authentication.
    Raises RelayError(PROTOCOL, LOGIN or REFUSED) and EOFError.
    """
    version = _version(await server.take(12))
    write(b"RFB 003.%03d\n" % version)
    security = await (_security_3_3(server) if version == 3 else _security_3_7(server, write, password))
    if security == _VNC_AUTHENTICATION:
        write(challenge_response(password, await server.take(16)))
    elif version < 8:
        return
    if int.from_bytes(await server.take(4), "big") != 0:
        reason = await _reason(server) if version == 8 else "authentication failed"
        raise RelayError(Ending.LOGIN, f"the VNC server did not let us in: {reason}")


async def greet(viewer: Exactly, send: Callable[[bytes], Awaitable[None]]) -> None:
    """Be a server without authentication up to and including ClientInit.

    Raises RelayError(BAD_INPUT) and EOFError.
    """
    await send(VERSION)
    if await viewer.take(12) != VERSION:
        raise RelayError(Ending.BAD_INPUT, "the viewer does not speak RFB 3.8")
    await send(bytes((1, _NONE)))
    if await viewer.take(1) != bytes((_NONE,)):
        raise RelayError(Ending.BAD_INPUT, "the viewer chose a security type that was not offered")
    await send(bytes(4))
    await viewer.take(1)


def challenge_response(password: str, challenge: bytes) -> bytes:
    """VNC authentication: the challenge in DES, the key's bits in reverse, eight characters of password."""
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode("latin-1", "replace")[:8].ljust(8, b"\0"))
    return Cipher(TripleDES(key * 3), modes.ECB()).encryptor().update(challenge)  # noqa: S305 - the protocol is what it is


def _version(line: bytes) -> int:
    if not line.startswith(b"RFB 00") or line[7:8] != b"." or line[11:] != b"\n" or not (line[4:7] + line[8:11]).isdigit():
        raise RelayError(Ending.PROTOCOL, f"not an RFB version: {line!r}")
    minor = int(line[8:11]) if line[4:7] == b"003" else 8
    return 8 if minor >= 8 else 7 if minor == 7 else 3


async def _security_3_3(server: Exactly) -> int:
    security = int.from_bytes(await server.take(4), "big")
    if security == 0:
        raise RelayError(Ending.REFUSED, f"the VNC server refused: {await _reason(server)}")
    if security not in (_NONE, _VNC_AUTHENTICATION):
        raise RelayError(Ending.PROTOCOL, f"the VNC server wants security type {security}")
    return security


async def _security_3_7(server: Exactly, write: Callable[[bytes], None], password: str) -> int:
    count = (await server.take(1))[0]
    if count == 0:
        raise RelayError(Ending.REFUSED, f"the VNC server refused: {await _reason(server)}")
    offered = await server.take(count)
    wanted = (_VNC_AUTHENTICATION, _NONE) if password else (_NONE, _VNC_AUTHENTICATION)
    for security in wanted:
        if security in offered:
            write(bytes((security,)))
            return security
    raise RelayError(Ending.PROTOCOL, f"the VNC server offers only security types {list(offered)}")


async def _reason(server: Exactly) -> str:
    length = int.from_bytes(await server.take(4), "big")
    return (await server.take(min(length, _REASON_LIMIT))).decode("utf-8", "replace")


class ViewOnly:
    """Lets a viewer's requests for pictures through and drops what would touch the machine.

    A pure parser of client messages: feed it bytes in any pieces. It holds at most one message
    of SetEncodings. What it does not know it cannot find the end of, so that is an error.
    """

    _POINTER_EXTENSION = (-316).to_bytes(4, "big", signed=True)  # would make PointerEvents longer
    _ENCODINGS_LIMIT = 1024

    _PASSED = {0: 20, 3: 10, 150: 10}  # SetPixelFormat, FramebufferUpdateRequest, EnableContinuousUpdates
    _DROPPED = {4: 8, 5: 6, 250: 4}  # KeyEvent, PointerEvent, xvp (power buttons)

    def __init__(self) -> None:
        self._held = b""
        self._skip = 0

    def feed(self, data: bytes) -> bytes:
        """What of these bytes goes on. Raises RelayError(BAD_INPUT)."""
        passed: list[bytes] = []
        data = self._held + data
        start = 0
        while start < len(data):
            if self._skip:
                skipped = min(self._skip, len(data) - start)
                self._skip -= skipped
                start += skipped
                continue
            size, passes = self._measure(data, start)
            if size == 0:
                break
            if not passes:
                self._skip = size
            elif start + size > len(data):
                break
            else:
                message = data[start : start + size]
                passed.append(self._without_pointer_extension(message) if message[0] == 2 else message)
                start += size
        self._held = data[start:]
        return b"".join(passed)

    def _measure(self, data: bytes, start: int) -> tuple[int, bool]:
        """Length of the message at `start` and whether it goes on; length 0 while that cannot be seen yet."""
        kind = data[start]
        if kind in self._PASSED:
            return self._PASSED[kind], True
        if kind in self._DROPPED:
            return self._DROPPED[kind], False
        head = data[start : start + 9]
        match kind:
            case 2:  # SetEncodings
                count = int.from_bytes(head[2:4], "big")
                if count > self._ENCODINGS_LIMIT:
                    raise RelayError(Ending.BAD_INPUT, f"{count} encodings")
                return (4 + 4 * count if len(head) >= 4 else 0), True
            case 6:  # ClientCutText; a negative length marks the extended form
                return (8 + abs(int.from_bytes(head[4:8], "big", signed=True)) if len(head) >= 8 else 0), False
            case 248:  # ClientFence
                return (9 + head[8] if len(head) == 9 else 0), True
            case 251:  # SetDesktopSize
                return (8 + 16 * head[6] if len(head) >= 8 else 0), False
            case 255:  # QEMU: extended key event, audio
                return self._measure_qemu(head)
        raise RelayError(Ending.BAD_INPUT, f"client message {kind}")

    @staticmethod
    def _measure_qemu(head: bytes) -> tuple[int, bool]:
        if len(head) < 2:
            return 0, False
        if head[1] == 0:
            return 12, False
        if head[1] != 1:
            raise RelayError(Ending.BAD_INPUT, f"QEMU client message {head[1]}")
        if len(head) < 4:
            return 0, True
        return (10 if head[2:4] == b"\0\2" else 4), True

    def _without_pointer_extension(self, message: bytes) -> bytes:
        encodings = [message[at : at + 4] for at in range(4, len(message), 4)]
        kept = [encoding for encoding in encodings if encoding != self._POINTER_EXTENSION]
        return message[:2] + len(kept).to_bytes(2, "big") + b"".join(kept)
