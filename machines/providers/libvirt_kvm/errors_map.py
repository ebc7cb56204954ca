"""From libvirt's errors to ours."""

from enum import Enum

import libvirt

from machines.providers.errors import (
    AuthFailed,
    Busy,
    InvalidSpec,
    NoCapacity,
    NotRunning,
    ProviderError,
    StorageFull,
    TaskFailed,
    TemplateMissing,
    Unreachable,
    Unsupported,
)


class Taken(Enum):
    """A port of the host that a machine wanted and somebody else has."""

    SSH = "host forwarding rule"
    SCREEN = "failed to find an available port"


# The connection itself is in trouble: nobody knows of a machine that something is wrong with it.
_CONNECTION = {
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_INVALID_CONN,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_GNUTLS_ERROR,
    libvirt.VIR_ERR_NO_SERVER,
}
_CONNECTION_WORDS = ("client socket is closed", "connection reset", "failed to connect", "end of file while reading data", "cannot write data")
_BUSY_WORDS = (
    "cannot acquire state change lock",
    'failed to get "write" lock',
    "is still being allocated",
    "is still in use",
    "has asynchronous jobs",
    *(port.value for port in Taken),
)
_BY_CODE: dict[int, type[ProviderError]] = {
    libvirt.VIR_ERR_AUTH_FAILED: AuthFailed,
    libvirt.VIR_ERR_AUTH_CANCELLED: AuthFailed,
    libvirt.VIR_ERR_ACCESS_DENIED: AuthFailed,
    libvirt.VIR_ERR_OPERATION_TIMEOUT: Busy,
    libvirt.VIR_ERR_RESOURCE_BUSY: Busy,
    libvirt.VIR_ERR_XML_ERROR: InvalidSpec,
    libvirt.VIR_ERR_XML_DETAIL: InvalidSpec,
    libvirt.VIR_ERR_INVALID_ARG: InvalidSpec,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED: InvalidSpec,
    libvirt.VIR_ERR_NO_SUPPORT: Unsupported,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED: Unsupported,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED: Unsupported,
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: Busy,
    libvirt.VIR_ERR_AGENT_UNSYNCED: Busy,
}
ABSENT = {libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_STORAGE_VOL, libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT}


def taken_port(error: libvirt.libvirtError) -> Taken | None:
    """Which port it was that kept a machine from starting; None where it was something else."""
    return next((port for port in Taken if port.value in str(error).lower()), None)


def is_absent(error: libvirt.libvirtError) -> bool:
    """The thing asked for is not there, which is an answer and no error."""
    return error.get_error_code() in ABSENT


def translate(error: libvirt.libvirtError) -> ProviderError:
    """One of our errors for one of libvirt's. Texts are looked at where libvirt has no code of
    its own: it says "operation failed" or "internal error" for a full disk and a lost file."""
    code, text = error.get_error_code(), error.get_error_message() or str(error)
    lowered = text.lower()
    if code in _CONNECTION or any(words in lowered for words in _CONNECTION_WORDS):
        return Unreachable(text)
    if "no space left" in lowered or "disk quota exceeded" in lowered:
        return StorageFull(text)
    if "backing file" in lowered or "cannot access storage file" in lowered or "could not open backing" in lowered:
        return TemplateMissing(text)
    if "cannot allocate memory" in lowered or "cannot set up guest memory" in lowered:
        return NoCapacity(text)
    if code == libvirt.VIR_ERR_OPERATION_INVALID and ("not running" in lowered or "is not active" in lowered):
        return NotRunning(text)
    if any(words in lowered for words in _BUSY_WORDS):
        return Busy(text)
    return _BY_CODE.get(code, TaskFailed)(text)
