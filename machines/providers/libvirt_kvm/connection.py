"""One connection to a libvirt daemon: opened when needed, opened again when lost, never waited
for without end.

libvirt's calls have no time limit. A daemon that is gone is noticed by keep-alive; one hung
QEMU blocks only the call that asks it, and for ever. So every call runs in a thread of this
connection, and who waits for longer than `CALL_SECONDS` gives the thread up, with its
connection, and takes new ones.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import libvirt

from machines.providers.errors import OutcomeUnknown, ProviderError, Unreachable

from .errors_map import translate

CALL_SECONDS = 18.0
_KEEPALIVE_SECONDS, _KEEPALIVE_MISSES = 4, 3

Answer = TypeVar("Answer")

libvirt.registerErrorHandler(lambda _context, _error: None, None)  # errors are raised; no copies on stderr

_event_loop_of: int | None = None  # the process whose event loop runs; threads do not survive a fork
_event_loop_lock = threading.Lock()


def _ensure_event_loop() -> None:
    """libvirt wants its event loop before the first connection; keep-alive and events need it."""
    global _event_loop_of
    with _event_loop_lock:
        if _event_loop_of == os.getpid():
            return
        libvirt.virEventRegisterDefaultImpl()

        def run() -> None:
            while True:
                libvirt.virEventRunDefaultImpl()

        threading.Thread(target=run, name="libvirt-events", daemon=True).start()
        _event_loop_of = os.getpid()


@contextlib.contextmanager
def _where_supported() -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise


class _Caller:
    """A thread that makes calls one after another, so that somebody else can stop waiting."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], object], _Reply] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="libvirt-calls", daemon=True).start()

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            call, reply = item
            try:
                reply.value = call()
            except BaseException as error:
                reply.error = error
            reply.done.set()

    def ask(self, call: Callable[[], object]) -> "_Reply":
        reply = _Reply()
        self._calls.put((call, reply))
        return reply

    def end(self) -> None:
        self._calls.put(None)


class _Reply:
    def __init__(self) -> None:
        self.done = threading.Event()
        self.value: object = None
        self.error: BaseException | None = None


class Connection:
    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._caller = _Caller()
        self._raw: Any = None
        self._changed = threading.Event()
        self._lost = False

    # Only inside a call, that is in the caller's thread.
    @property
    def raw(self) -> Any:
        """The libvirt.virConnect. Raises libvirtError where the daemon does not answer."""
        if self._raw is not None and (self._lost or not self._raw.isAlive()):
            self._close_raw()
        if self._raw is None:
            _ensure_event_loop()
            raw = libvirt.open(self.uri)
            with _where_supported():  # without a wire there is nothing to keep alive
                raw.setKeepAlive(_KEEPALIVE_SECONDS, _KEEPALIVE_MISSES)
            with _where_supported():
                raw.registerCloseCallback(self._on_close, None)
            for event in (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT):
                raw.domainEventRegisterAny(None, event, self._on_event, None)
            self._lost = False
            self._raw = raw
        return self._raw

    def _on_event(self, *_details: object) -> None:
        self._changed.set()

    def _on_close(self, *_details: object) -> None:
        self._lost = True
        self._changed.set()

    def _close_raw(self) -> None:
        raw, self._raw = self._raw, None
        with contextlib.suppress(libvirt.libvirtError):  # it is closed then, and that is what was wanted
            raw.close()

    def call(self, call: Callable[[Any], Answer], *, changes: bool = False) -> Answer:
        """What `call(virConnect)` answers. With `changes`, a lost answer is OutcomeUnknown,
        otherwise Unreachable. Errors of libvirt leave translated."""
        began = threading.Event()

        def work() -> Answer:
            raw = self.raw
            began.set()
            return call(raw)

        reply = self._caller.ask(work)
        if not reply.done.wait(CALL_SECONDS):
            self._abandon()
            detail = f"no answer from {self.uri} within {CALL_SECONDS:.0f} s"
            raise OutcomeUnknown(detail) if changes and began.is_set() else Unreachable(detail)
        if isinstance(reply.error, libvirt.libvirtError):
            error: ProviderError = translate(reply.error)
            if isinstance(error, Unreachable) and changes and began.is_set():
                error = OutcomeUnknown(error.detail)
            raise error from reply.error
        if reply.error is not None:
            raise reply.error
        return reply.value  # type: ignore[return-value]  # the caller's thread answers what `call` does

    def _abandon(self) -> None:
        """Leave the stuck thread and its connection to themselves."""
        self._caller.end()
        self._caller, self._raw, self._lost = _Caller(), None, False

    def wait_for_change(self, seconds: float) -> bool:
        """Sleep until a machine's state changed (True) or `seconds` passed. Raises Unreachable."""
        if self._raw is None or self._lost:
            self.call(lambda raw: raw.isAlive())
        changed = self._changed.wait(seconds)
        self._changed.clear()
        if self._lost:
            raise Unreachable(f"the connection to {self.uri} was lost")
        return changed

    def close(self) -> None:
        def end() -> None:
            if self._raw is not None:
                self._close_raw()

        self._caller.ask(end).done.wait(2)
        self._caller.end()
