"""The API of one cluster, called by one thread: signing in, failing over, and errors that are ours.

Two rules above all. A write is sent once: where its outcome is not known, `OutcomeUnknown` says so and the
caller looks. And no secret leaves: not in an error, not in a log.
"""

import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests
from proxmoxer.core import ProxmoxResource, ResourceException
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from machines.providers import notation
from machines.providers.errors import AuthFailed, InvalidSpec, OutcomeUnknown, ProviderError, Unreachable

from . import tls
from .answers import NoQuorum, clean, refusal
from .breakers import Breakers
from .transport import NotProxmox, Serializer, Transport

LOOK_SECONDS = 10.0  # of one reading at one endpoint
LEAST_SECONDS = 1.0  # with less no endpoint is tried
LOOK_ALTOGETHER_SECONDS = 19.0  # at all endpoints that are tried
WRITE_SECONDS = 60.0  # Proxmox VE itself gives up after 30 s, and a lock may be waited for before that
RENEW_SECONDS = 3600.0  # tickets live for two hours and renew themselves before that
VERSION_SECONDS = 3600.0
SECRET_PARAMETERS = frozenset({"password", "cipassword", "ticket", "vncticket", "tfa-challenge"})

shared_breakers = Breakers()  # of all threads of the process


@dataclass(frozen=True)
class Ticket:
    """What a password was changed into. `made` on the monotonic clock."""

    user: str
    text: str
    csrf: str
    made: float

    @property
    def headers(self) -> dict[str, str]:
        return {"Cookie": f"PVEAuthCookie={quote(self.text, safe='')}", "CSRFPreventionToken": self.csrf}


class SecondFactorWanted(AuthFailed):
    default = "This account asks for a second factor, which cannot be given here."


class _Silence(Exception):
    """No usable answer came. `sent`: the request may have arrived. `certain`: the endpoint is down, or not whom we trust."""

    def __init__(self, error: Unreachable, *, sent: bool, certain: bool = False, counts: bool = True) -> None:
        self.error, self.sent, self.certain, self.counts = error, sent, certain, counts
        super().__init__(error.detail)


class Client:
    """One per thread and cluster. `secret` is the API token's, or the password where `config` names no token.

    Raises InvalidSpec where the settings cannot be used; that is all it does before the first call.
    """

    def __init__(self, config: Mapping[str, Any], secret: str, *, breakers: Breakers | None = None) -> None:
        self.config = config
        self.user = str(config.get("user") or "")
        self.token_name = str(config.get("token_name") or "")
        self._secret = secret.strip() if self.token_name else secret
        self._trust = tls.Trust.of(config)
        self.endpoints = tuple(dict.fromkeys(notation.endpoint(text) for text in config.get("endpoints") or ()))
        if not self.endpoints:
            raise InvalidSpec(message="The cluster has no endpoint.")
        if self.token_name and not re.fullmatch(r"[!-~]+", self.user + self.token_name + self._secret):
            raise InvalidSpec(message="The API token has characters that no token has.")
        self._breakers = breakers or shared_breakers
        self._transport = Transport(self._trust)
        self._current = self.endpoints[0]
        self._pinned = False
        self._limit: float | None = None
        self._end = math.inf
        self._ticket: Ticket | None = None
        self._version: tuple[tuple[int, int], float] | None = None

    def only(self, endpoint: str) -> "Client":
        """The same account at one endpoint, whatever is known of it: to try it."""
        return Client({**self.config, "endpoints": [endpoint]}, self._secret, breakers=Breakers())

    def close(self) -> None:
        self._transport.close()

    # -- calls -------------------------------------------------------------------------------

    def get(self, path: str, /, **values: Any) -> Any:
        """The data of the answer. An endpoint that does not answer is followed by the next one. Raises Unreachable, AuthFailed, TaskFailed …"""
        return self._call("GET", path, values)

    def post(self, path: str, /, **values: Any) -> Any:
        """Sent once. Raises OutcomeUnknown where it may have been done, else as `get`, Busy, Overloaded, StorageFull, InvalidSpec …"""
        return self._call("POST", path, values)

    def put(self, path: str, /, **values: Any) -> Any:
        return self._call("PUT", path, values)

    def delete(self, path: str, /, **values: Any) -> Any:
        return self._call("DELETE", path, values)

    @property
    def endpoint(self) -> str:
        """host:port of the last answer. A console stays at the one that opened it."""
        return self._current

    @contextmanager
    def pinned(self) -> Iterator["Client"]:
        """All calls inside go to one endpoint, one that answers now. Raises as `get`."""
        self._call("GET", "version", {})
        self._pinned = True
        try:
            yield self
        finally:
            self._pinned = False

    @contextmanager
    def within(self, seconds: float) -> Iterator["Client"]:
        """Each call inside takes so long at most, writes included."""
        before, self._limit = self._limit, seconds
        try:
            yield self
        finally:
            self._limit = before

    @contextmanager
    def altogether(self, seconds: float) -> Iterator["Client"]:
        """All calls inside together take so long at most; what is left of a larger time remains the most."""
        before, self._end = self._end, min(self._end, time.monotonic() + seconds)
        try:
            yield self
        finally:
            self._end = before

    @property
    def headers(self) -> dict[str, str]:
        """What signs in to a WebSocket of this cluster. Secret. Raises as `get`."""
        if self.token_name:
            return self._token_headers()
        if self._ticket is None:
            self._call("GET", "version", {})
        assert self._ticket
        return self._ticket.headers

    @property
    def version(self) -> tuple[int, int]:
        """Of Proxmox VE, (9, 1). Raises as `get`."""
        if self._version is None or time.monotonic() - self._version[1] > VERSION_SECONDS:
            answer = self.get("version")
            told = str(answer.get("version") or answer.get("release") or "") if isinstance(answer, dict) else ""
            found = re.match(r"(\d+)(?:[.-](\d+))?", told)
            if not found:
                raise Unreachable(clean(told), message="The cluster does not say which version it is of.")
            self._version = (int(found[1]), int(found[2] or 0)), time.monotonic()
        return self._version[0]

    # -- which endpoint ------------------------------------------------------------------------

    def _call(self, method: str, path: str, values: Mapping[str, Any]) -> Any:
        wrote = method != "GET"
        deadline = min(self._end, time.monotonic() + (self._limit or (WRITE_SECONDS if wrote else LOOK_ALTOGETHER_SECONDS)))
        last: Unreachable | None = None
        for endpoint in self._order():
            left = deadline - time.monotonic()
            if left < LEAST_SECONDS:
                break
            key = self._key(endpoint)
            if not self._breakers.allows(key):
                last = last or self._breakers.why(key)
                continue
            self._transport.seconds = left if wrote else min(left, LOOK_SECONDS)
            try:
                answer = self._at(endpoint, method, path, values)
            except _Silence as silence:
                last = silence.error
                self._judge(endpoint, silence)
                if wrote and silence.sent:
                    raise OutcomeUnknown(last.detail) from None
            except ProviderError as error:
                self._heard(endpoint)
                if isinstance(error, NoQuorum):
                    self._move_on(endpoint)  # another node may be on the side of the majority; the next call will see
                raise
            except BaseException:
                self._breakers.left(key)
                raise
            else:
                self._heard(endpoint)
                return answer
        raise Unreachable(last.detail if last else "", message=last.message if last else "")

    def _order(self) -> list[str]:
        if self._pinned:
            return [self._current]
        place = self.endpoints.index(self._current)
        return [*self.endpoints[place:], *self.endpoints[:place]]

    def _heard(self, endpoint: str) -> None:
        self._breakers.answered(self._key(endpoint))
        self._current = endpoint

    def _judge(self, endpoint: str, silence: _Silence) -> None:
        if silence.counts:
            self._breakers.failed(self._key(endpoint), silence.error, certain=silence.certain)
            self._move_on(endpoint)
        else:
            self._breakers.left(self._key(endpoint))

    def _move_on(self, endpoint: str) -> None:
        if not self._pinned:
            self._current = self.endpoints[(self.endpoints.index(endpoint) + 1) % len(self.endpoints)]

    def _key(self, endpoint: str) -> tuple[str, tls.Trust]:
        # With whom is trusted there: new settings are tried at once.
        return endpoint, self._trust

    # -- one call at one endpoint ----------------------------------------------------------------

    def _at(self, endpoint: str, method: str, path: str, values: Mapping[str, Any]) -> Any:
        if self.token_name:
            return self._send(endpoint, method, path, values, self._token_headers())
        fresh = self._ticket is None
        ticket = self._signed_in(endpoint)
        try:
            return self._send(endpoint, method, path, values, ticket.headers)
        except AuthFailed as error:
            if fresh or not error.detail.startswith("401"):
                raise
        # Refused before anything was done, so that even a write may be sent again.
        self._ticket = None
        return self._send(endpoint, method, path, values, self._signed_in(endpoint).headers)

    def _send(self, endpoint: str, method: str, path: str, values: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        wrote = method != "GET"
        given = {name: int(value) if isinstance(value, bool) else value for name, value in values.items()}
        secrets = [self._secret, *(str(value) for name, value in given.items() if name in SECRET_PARAMETERS)]
        self._transport.headers = headers
        resource = ProxmoxResource(base_url=f"https://{endpoint}/api2/json", session=self._transport, serializer=Serializer())
        ask = {"GET": resource.get, "POST": resource.post, "PUT": resource.put, "DELETE": resource.delete}[method]
        try:
            return ask(*_parts(path), **given)
        except ResourceException as error:
            failed = refusal(error.status_code, error.content, error.errors, wrote=wrote, path=path, secrets=secrets)
        except NotProxmox as error:
            detail = f"{endpoint}: {error}"
            failed = OutcomeUnknown(detail) if wrote else Unreachable(detail, message="What answers there is not Proxmox VE.")
        except requests.RequestException as error:
            raise self._silence(endpoint, path, error) from None
        if isinstance(failed, Unreachable) and not isinstance(failed, NoQuorum):
            # A node behind this endpoint is not the endpoint's fault.
            raise _Silence(failed, sent=True, counts=not path.strip("/").startswith("nodes/")) from None
        raise failed from None

    def _silence(self, endpoint: str, path: str, error: requests.RequestException) -> _Silence:
        if sentence := tls.refused(error):
            return _Silence(Unreachable(f"{endpoint}: {clean(sentence)}", message=sentence), sent=False, certain=True)
        cause = error.args[0] if error.args else None
        reason = getattr(cause, "reason", None)
        unsent = isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError | ConnectTimeoutError)
        invalid = isinstance(error, requests.exceptions.InvalidHeader | requests.exceptions.InvalidURL)
        detail = f"{endpoint}: {type(reason or error).__name__}"
        if unsent or invalid:
            return _Silence(Unreachable(detail), sent=False, certain=True)
        slow = isinstance(error, requests.ReadTimeout)
        return _Silence(Unreachable(detail), sent=True, counts=not (slow and path.strip("/").startswith("nodes/")))

    # -- signing in --------------------------------------------------------------------------------

    def _token_headers(self) -> dict[str, str]:
        return {"Authorization": f"PVEAPIToken={self.user}!{self.token_name}={self._secret}"}

    def _signed_in(self, endpoint: str) -> Ticket:
        """With a ticket of less than an hour: that of before, one it was changed into, or one for the password."""
        if self._ticket and time.monotonic() - self._ticket.made > RENEW_SECONDS:
            old, self._ticket = self._ticket, None
            with suppress(AuthFailed):
                self._ticket = self._sign_in(endpoint, self.user, old.text)
        if self._ticket is None:
            self._ticket = self._sign_in(endpoint, self.user, self._secret)
        return self._ticket

    def sign_in(self) -> Ticket:
        """Prove that the password is right, at an endpoint that answers. Raises AuthFailed, SecondFactorWanted, Unreachable."""
        self._ticket = None
        self._call("GET", "version", {})
        assert self._ticket
        return self._ticket

    def _sign_in(self, endpoint: str, user: str, password: str) -> Ticket:
        """A ticket for a password, through the connection whose certificate is checked. Raises AuthFailed, SecondFactorWanted."""
        try:
            data = self._send(endpoint, "POST", "access/ticket", {"username": user, "password": password}, {})
        except OutcomeUnknown as error:  # nothing to be in doubt about
            raise _Silence(Unreachable(error.detail), sent=False) from None
        except _Silence as silence:
            silence.sent = False
            raise
        if not isinstance(data, dict) or not data.get("ticket"):
            raise AuthFailed("no ticket in the answer")
        if data.get("NeedTFA"):
            raise SecondFactorWanted()
        return Ticket(str(data.get("username") or user), str(data["ticket"]), str(data.get("CSRFPreventionToken") or ""), time.monotonic())


def _parts(path: str) -> list[str]:
    """Each escaped unless it is already, so that no name in it leads elsewhere. Raises InvalidSpec."""
    parts = path.strip("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidSpec(clean(path))
    return [quote(part, safe="%:!@,;=+~") for part in parts]
