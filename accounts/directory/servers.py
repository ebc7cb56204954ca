"""Which server is asked, and for how long.

One that hangs must hold nobody up. libldap's own time-outs bound connecting and each answer, but neither the look-up of
a name nor, with GnuTLS, a handshake; so every server is asked in a thread of its own that is given up on in time.
"""

import logging
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as OutOfTime
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urlsplit

import ldap
from ldap.ldapobject import SimpleLDAPObject

from .config import DirectoryConfig
from .types import Unreachable

log = logging.getLogger(__name__)

REST_SECONDS = 30.0  # for which a server that hung is asked last, and for long by one question at a time
RESTING_PATIENCE = 0.3  # of the others meanwhile
AWAKE_SECONDS = 5.0  # after an answer in which a server is no more than slow at another question
AT_ONCE = 32  # servers asked at the same time; what hangs beyond its time goes on counting

NOT_THERE = (ldap.SERVER_DOWN, ldap.CONNECT_ERROR, ldap.UNAVAILABLE, ldap.BUSY, ldap.TIMELIMIT_EXCEEDED)

# In half a minute it is seen that a server has lost its power, so no thread waits for it for ever.
_NOTICE_THE_DEAD = ((ldap.OPT_X_KEEPALIVE_IDLE, 15), (ldap.OPT_X_KEEPALIVE_INTERVAL, 5), (ldap.OPT_X_KEEPALIVE_PROBES, 3))

Answer = TypeVar("Answer")


class _Crowded(Exception):
    """Too many questions wait for answers already."""


class _Silent(Exception):
    """The server did not answer in time. `seconds`: how long it had."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:.1f} s")
        self.seconds = seconds


class _Plain(Exception):
    """The server speaks in clear alone."""


class Servers:
    """The servers of a directory. Threads share one."""

    def __init__(self, config: DirectoryConfig) -> None:
        self._config = config
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._hung_at: dict[str, float] = {}
        self._answered_at: dict[str, float] = {}
        self._tried = {uri: threading.Lock() for uri in config.uris}

    def ask(self, question: Callable[[SimpleLDAPObject], Answer]) -> Answer:
        """What the first server says that answers. `question` gets a connection on which nobody is bound yet; what it
        raises is raised here, unless it says that the server is not there. Raises Unreachable."""
        end = time.monotonic() + self._config.timeout
        uris = sorted(self._config.uris, key=self._rests)
        problems = []
        for number, uri in enumerate(uris):
            try:
                with self._to_be_tried(uri) as tried:
                    until, servers = (end, len(uris) - number) if tried else (min(end, time.monotonic() + RESTING_PATIENCE), 1)
                    answer = self._ask_one(uri, question, until, servers)
            except _Crowded:
                problems.append(f"{uri}: not asked, as {AT_ONCE} questions wait for answers")
            except _Silent as error:
                if tried:
                    self._note_silence(uri, error.seconds)
                problems.append(f"{uri}: {error}")
            except NOT_THERE as error:
                problems.append(f"{uri}: {described(error)}")
            except (_Plain, OSError, ssl.SSLError) as error:
                problems.append(f"{uri}: {error}")
            except (ValueError, TypeError) as error:  # of a slip in the settings, or a value that libldap cannot send
                log.exception("%s cannot be asked", uri)
                problems.append(f"{uri}: it cannot be asked like this ({type(error).__name__})")
            else:
                self._answered_at[uri] = time.monotonic()
                self._hung_at.pop(uri, None)
                return answer
        log.warning("the directory does not answer: %s", "; ".join(problems))
        raise Unreachable("The directory does not answer at the moment.", "; ".join(problems))

    @contextmanager
    def _to_be_tried(self, uri: str) -> Iterator[bool]:
        """Whether to wait for this server as long as for any. For one that rests, one question at a time does: it finds
        the server awake, though slow, and holds nobody else up where it is not."""
        if not self._rests(uri):
            yield True
            return
        tried = self._tried[uri].acquire(blocking=False)
        try:
            yield tried
        finally:
            if tried:
                self._tried[uri].release()

    def _rests(self, uri: str) -> bool:
        return time.monotonic() - self._hung_at.get(uri, -math.inf) < REST_SECONDS

    def _note_silence(self, uri: str, seconds: float) -> None:
        """The server rests, unless it answers others, or had less than half its time, as it is where many wait for
        their turn: neither is a server that hangs."""
        now = time.monotonic()
        fair = self._config.timeout / len(self._config.uris) / 2
        if seconds >= fair and now - self._answered_at.get(uri, -math.inf) >= AWAKE_SECONDS:
            self._hung_at[uri] = now

    def _ask_one(self, uri: str, question: Callable[[SimpleLDAPObject], Answer], end: float, servers: int) -> Answer:
        """Wait for a turn, and then for the server, with an equal part of what is left for each of so many. Raises
        _Crowded, _Silent, and whatever connecting and the question raise."""
        if not self._slots.acquire(timeout=max(0.0, end - time.monotonic())):
            raise _Crowded
        began = time.monotonic()
        patience = max(0.0, end - began) / servers
        future: Future[Answer] = Future()

        def answer() -> None:
            try:
                future.set_result(self._talk(uri, question, max(0.05, began + patience - time.monotonic())))
            except BaseException as error:
                future.set_exception(error)
            finally:
                self._slots.release()

        # A daemon: one that hangs does not keep the process from ending.
        threading.Thread(target=answer, name="directory", daemon=True).start()
        try:
            return future.result(max(0.0, began + patience - time.monotonic()))
        except (OutOfTime, ldap.TIMEOUT):
            raise _Silent(patience) from None

    def _talk(self, uri: str, question: Callable[[SimpleLDAPObject], Answer], seconds: float) -> Answer:
        secure = urlsplit(uri).scheme == "ldaps"
        if secure:
            self._shake_hands(uri, seconds)
        connection = ldap.initialize(uri)
        try:
            connection.protocol_version = ldap.VERSION3
            connection.set_option(ldap.OPT_REFERRALS, 0)  # nobody's password is sent to where a server points
            connection.set_option(ldap.OPT_NETWORK_TIMEOUT, seconds)
            connection.set_option(ldap.OPT_TIMEOUT, seconds)
            for option, number in _NOTICE_THE_DEAD:
                connection.set_option(option, number)
            if secure or self._config.start_tls:
                self._trust(connection)
            if not secure and self._config.start_tls:
                try:
                    connection.start_tls_s()
                except (ldap.PROTOCOL_ERROR, ldap.UNAVAILABLE, ldap.OPERATIONS_ERROR) as error:
                    raise _Plain(f"it offers no encryption (StartTLS: {described(error)})") from error
            return question(connection)
        finally:
            connection.unbind_ext_s()

    def _trust(self, connection: SimpleLDAPObject) -> None:
        """Certificates are checked, always: against the file of the settings, or the authorities this computer trusts."""
        if self._config.ca_file is not None:
            connection.set_option(ldap.OPT_X_TLS_CACERTFILE, str(self._config.ca_file))
        connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
        connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)  # last: it makes the former count

    def _shake_hands(self, uri: str, seconds: float) -> None:
        """Find out whether the server speaks TLS before libldap does, which would wait for it without end. Raises
        OutOfTime, OSError."""
        parts = urlsplit(uri)
        context = ssl.create_default_context(cafile=None if self._config.ca_file is None else str(self._config.ca_file))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the authorities of universities are old; libldap decides
        try:
            with (
                socket.create_connection((parts.hostname or "", parts.port or 636), seconds) as plain,
                context.wrap_socket(plain, server_hostname=parts.hostname),
            ):
                pass
        except TimeoutError:
            raise OutOfTime from None


def described(error: Exception) -> str:
    """What libldap says, for staff. None of it repeats what was sent."""
    said = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    return ": ".join(str(said[key]) for key in ("desc", "info") if said.get(key)) or type(error).__name__
