"""HTTPS to the endpoints of one cluster: bounded in time and size, without the environment's say."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from . import tls

CONNECT_SECONDS = 4.0
IDLE_SECONDS = 3.0  # pveproxy closes idle connections after 5 s: a write on one of those would end in doubt
LARGEST_BYTES = 64 << 20
CHUNK_BYTES = 64 << 10


class NotProxmox(Exception):
    """Something answered, and not as Proxmox VE does."""


@dataclass(frozen=True)
class Answer:
    """What proxmoxer reads of an answer."""

    status_code: int
    reason: str
    content: bytes


class Serializer:
    """Reads answers for proxmoxer, whose own reader passes on what is no JSON as if it were data."""

    def loads(self, answer: Answer) -> Any:
        body = self.loads_errors(answer)
        if body is None or "data" not in body:
            raise NotProxmox(f"{answer.status_code} without data")
        return body["data"]

    def loads_errors(self, answer: Answer) -> dict[str, Any] | None:
        try:
            body = json.loads(answer.content)
        except (ValueError, RecursionError):
            return None
        return body if isinstance(body, dict) else None


class Transport:
    """In the place of proxmoxer's session. `seconds` an answer may take and the `headers` to sign in with are set for each call."""

    def __init__(self, trust: tls.Trust) -> None:
        self.seconds = 0.0
        self.headers: Mapping[str, str] = {}
        self._session = requests.Session()
        self._session.trust_env = False  # neither proxies, nor .netrc, nor REQUESTS_CA_BUNDLE
        self._session.mount("https://", tls.TrustingAdapter(trust))
        self._used = 0.0

    def request(self, method: str, url: str, data: Any = None, params: Any = None) -> Answer:
        """Raises requests' exceptions, NotProxmox."""
        if time.monotonic() - self._used > IDLE_SECONDS:
            self._session.close()  # its connections; it makes new ones
        deadline = time.monotonic() + self.seconds
        headers = {"Accept": "application/json", **self.headers}
        timeout = (min(CONNECT_SECONDS, self.seconds), self.seconds)
        try:
            with self._session.request(method, url, data=data, params=params, headers=headers, timeout=timeout, allow_redirects=False, stream=True) as response:
                content = bytearray()
                for chunk in response.iter_content(CHUNK_BYTES):
                    content += chunk
                    if len(content) > LARGEST_BYTES:
                        raise NotProxmox(f"more than {LARGEST_BYTES >> 20} MiB")
                    if time.monotonic() > deadline:
                        raise requests.ReadTimeout(url)
                if 300 <= response.status_code < 400:
                    raise NotProxmox(f"{response.status_code} (elsewhere)")
                return Answer(response.status_code, _text(response.reason), bytes(content))
        finally:
            self._session.cookies.clear()
            self._used = time.monotonic()

    def close(self) -> None:
        self._session.close()


def _text(reason: Any) -> str:
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason or "")
