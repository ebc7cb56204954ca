"""Every verb and extra of a provider as something to call, for tests that try them all."""

from collections.abc import Callable

from machines.providers.base import Provider
from machines.providers.types import ConsoleKind, MachineIdentity, MachineSpec, StopMode

Verb = Callable[[Provider, MachineIdentity, str, MachineSpec], object]

CHANGING_VERBS: dict[str, Verb] = {
    "create": lambda provider, identity, ref, spec: provider.begin_create(identity, ref, spec),
    "configure": lambda provider, identity, ref, spec: provider.ensure_configured(identity, ref, spec),
    "start": lambda provider, identity, ref, spec: provider.begin_start(identity, ref),
    "stop": lambda provider, identity, ref, spec: provider.begin_stop(identity, ref, StopMode.GRACEFUL),
    "force off": lambda provider, identity, ref, spec: provider.begin_stop(identity, ref, StopMode.FORCE),
    "reboot": lambda provider, identity, ref, spec: provider.begin_reboot(identity, ref),
    "revert": lambda provider, identity, ref, spec: provider.begin_revert(identity, ref, spec),
    "destroy": lambda provider, identity, ref, spec: provider.begin_destroy(identity, ref),
}
EXTRA_VERBS: dict[str, list[Verb]] = {
    "snapshots": [
        lambda provider, identity, ref, spec: provider.snapshots(identity, ref),
        lambda provider, identity, ref, spec: provider.begin_snapshot(identity, ref, "kept"),
        lambda provider, identity, ref, spec: provider.begin_delete_snapshot(identity, ref, "kept"),
    ],
    "resize": [lambda provider, identity, ref, spec: provider.begin_resize(identity, ref, spec)],
    "endpoints": [lambda provider, identity, ref, spec: provider.endpoints(identity, ref)],
    "guest_password": [lambda provider, identity, ref, spec: provider.set_guest_password(identity, ref, "student", "secret")],
    "screenshot": [lambda provider, identity, ref, spec: provider.screenshot(identity, ref)],
    "screen": [lambda provider, identity, ref, spec: provider.open_console(identity, ref, ConsoleKind.SCREEN)],
    "terminal": [lambda provider, identity, ref, spec: provider.open_console(identity, ref, ConsoleKind.TERMINAL)],
}
CLUSTER_EXTRAS: dict[str, Callable[[Provider], object]] = {
    "metrics": lambda provider: provider.metrics(),
    "templates": lambda provider: provider.templates(),
    "import_template": lambda provider: provider.import_template("/nonexistent.qcow2", "image"),
    "events": lambda provider: provider.wait_for_change(0.01),
}
