"""The connection: never waited for without end. Against libvirt's own pretended hypervisor."""

import threading
from collections.abc import Iterator

import libvirt
import pytest

from machines.providers.errors import Busy, InvalidSpec, OutcomeUnknown, ProviderError, StorageFull, TaskFailed, TemplateMissing, Unreachable
from machines.providers.libvirt_kvm import connection as module
from machines.providers.libvirt_kvm.connection import Connection
from machines.providers.libvirt_kvm.errors_map import translate
from machines.providers.libvirt_kvm.provider import LibvirtProvider
from machines.providers.types import ProviderSettings


@pytest.fixture
def connection() -> Iterator[Connection]:
    connection = Connection("test:///default")
    yield connection
    connection.close()


def test_calls_are_answered(connection: Connection) -> None:
    assert connection.call(lambda raw: [domain.name() for domain in raw.listAllDomains()]) == ["test"]


@pytest.mark.parametrize(("changes", "expected"), [(False, Unreachable), (True, OutcomeUnknown)])
def test_a_call_that_is_never_answered(connection: Connection, monkeypatch: pytest.MonkeyPatch, changes: bool, expected: type[ProviderError]) -> None:
    for_ever = threading.Event()
    connection.call(lambda raw: raw.getHostname())
    monkeypatch.setattr(module, "CALL_SECONDS", 0.2)
    with pytest.raises(expected):
        connection.call(lambda _raw: for_ever.wait(), changes=changes)
    monkeypatch.undo()
    assert connection.call(lambda raw: raw.getHostname())  # others are not held up
    for_ever.set()


def test_libvirts_errors_leave_as_ours(connection: Connection) -> None:
    with pytest.raises(TaskFailed):
        connection.call(lambda raw: raw.lookupByName("no-such-machine"))


def test_errors_of_ours_leave_as_they_are(connection: Connection) -> None:
    def refuse(_raw: object) -> None:
        raise InvalidSpec("no")

    with pytest.raises(InvalidSpec):
        connection.call(refuse)


def test_nobody_at_the_address() -> None:
    connection = Connection("qemu+unix:///session?socket=/nonexistent/libvirt-sock")
    for changes in (False, True):
        with pytest.raises(Unreachable):
            connection.call(lambda raw: raw.getHostname(), changes=changes)
    with pytest.raises(Unreachable):
        connection.wait_for_change(0.1)
    connection.close()


def test_a_change_is_not_missed_and_told_once(connection: Connection) -> None:
    assert not connection.wait_for_change(0.01)
    connection.call(lambda raw: raw.lookupByName("test").suspend())
    assert connection.wait_for_change(5)
    while connection.wait_for_change(0.05):
        pass
    connection.call(lambda raw: raw.lookupByName("test").resume())
    assert connection.wait_for_change(5)


def of_libvirt(code: int, text: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError(text)
    error.err = (code, 0, text, 2, None, None, None, 0, 0)
    return error


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (libvirt.VIR_ERR_NO_CONNECT, "no connection", Unreachable),
        (libvirt.VIR_ERR_INTERNAL_ERROR, "client socket is closed", Unreachable),
        (libvirt.VIR_ERR_SYSTEM_ERROR, "End of file while reading data: Input/output error", Unreachable),
        (libvirt.VIR_ERR_SYSTEM_ERROR, "cannot write to stream: No space left on device", StorageFull),
        (libvirt.VIR_ERR_INTERNAL_ERROR, "qemu-img: x: Could not open backing file: No such file", TemplateMissing),
        (libvirt.VIR_ERR_OPERATION_INVALID, "volume 'x' is still being allocated.", Busy),
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, "cannot acquire state change lock", Busy),
        (libvirt.VIR_ERR_INTERNAL_ERROR, "qemu-system-x86_64: -vnc 127.0.0.1:15: Failed to find an available port: Address already in use", Busy),
        (libvirt.VIR_ERR_XML_ERROR, "bad XML", InvalidSpec),
        (libvirt.VIR_ERR_OPERATION_FAILED, "something else", TaskFailed),
    ],
)
def test_what_libvirts_errors_mean(code: int, text: str, expected: type[ProviderError]) -> None:
    translated = translate(of_libvirt(code, text))
    assert type(translated) is expected
    assert text in translated.detail


@pytest.mark.parametrize(
    "uri",
    [
        "qemu+ext:///session",
        "qemu+EXT://h/session",
        "qemu+ssh://h/system?command=/x",
        "qemu+ssh://h/system?no_tty=1;COMMAND=/x",
        "qemu+ssh://h/system?%63ommand=/x",
    ],
)
def test_an_address_that_starts_a_program_is_not_taken(uri: str) -> None:
    with pytest.raises(InvalidSpec, match="not taken"):
        LibvirtProvider(ProviderSettings(cluster="far", portal="portal", config={"uri": uri}))


@pytest.mark.parametrize("uri", ["qemu:///system", "qemu+unix:///session?socket=/run/x", "qemu+ssh://me@h/system?keyfile=/k&no_tty=1", "qemu+tls://h/system"])
def test_the_usual_addresses_are_taken(uri: str) -> None:
    LibvirtProvider(ProviderSettings(cluster="far", portal="portal", config={"uri": uri})).close()
