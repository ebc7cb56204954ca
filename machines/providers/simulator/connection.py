"""One connection to the simulator's process, reopened when it broke."""

import json
import socket
from typing import Any

from machines.providers.errors import OutcomeUnknown, Unreachable

from .protocol import OUTCOME_MATTERS, Json, error_from_json


class Connection:
    """Used by one thread. `timeout`: seconds an answer may take."""

    def __init__(self, path: str, *, timeout: float, hello: str = "hello") -> None:
        self._path, self._timeout, self._hello = path, timeout, hello
        self._socket: socket.socket | None = None
        self._rest = b""

    def ask(self, verb: str, *, longer: float = 0.0, **arguments: Any) -> Any:
        """The result. `longer`: seconds the answer may take beyond the timeout.

        Raises Unreachable when nobody answers, OutcomeUnknown when the answer to a verb that
        changes something got lost, and whatever ProviderError the simulator says.
        """
        connection = self._opened()
        try:
            connection.settimeout(self._timeout + longer)
            connection.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            answer = self._read(connection)
        except (OSError, ValueError) as error:
            self.close()
            lost = OutcomeUnknown if verb in OUTCOME_MATTERS else Unreachable
            raise lost(f"{verb}: {error or type(error).__name__}") from error
        if "error" in answer:
            raise error_from_json(answer["error"])
        return answer["result"]

    def close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None
        self._rest = b""

    def _opened(self) -> socket.socket:
        if self._socket and self._is_alive(self._socket):
            return self._socket
        self.close()
        opening = socket.socket(socket.AF_UNIX)
        try:
            opening.settimeout(self._timeout)
            opening.connect(self._path)
            opening.sendall(json.dumps({"verb": self._hello}).encode() + b"\n")
            self._read(opening)
        except (OSError, ValueError) as error:
            opening.close()
            raise Unreachable(f"{self._path}: {error or type(error).__name__}") from error
        self._socket = opening
        return opening

    @staticmethod
    def _is_alive(connection: socket.socket) -> bool:
        """Whether the other side still holds it; between two calls it has nothing to say."""
        connection.setblocking(False)
        try:
            return connection.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _read(self, connection: socket.socket) -> Json:
        pieces = [self._rest]
        while b"\n" not in pieces[-1]:
            piece = connection.recv(1024 * 1024)
            if not piece:
                raise ConnectionResetError("the connection broke before the answer")
            pieces.append(piece)
        line, _, self._rest = b"".join(pieces).partition(b"\n")
        answer: Json = json.loads(line)
        return answer
