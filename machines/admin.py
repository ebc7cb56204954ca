"""The admin of the machines app. What the portal decides (states, operations, what was seen) can be
read here and never written; secrets can be written and never read."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts.admin import ReadOnly
from accounts.http import person
from machines import admin_clusters, admin_requests  # noqa: F401 - register themselves
from machines.models import Batch, Heartbeat, Machine, Node, Operation, OperationEvent, Snapshot, Tier
from machines.services import adoption, requests
from machines.services.refusal import Refused


class ReadOnlyInline(admin.TabularInline):
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Node)
class NodeAdmin(ReadOnly):
    list_display = ("name", "cluster", "online", "cores", "memory_total_mib", "memory_free_mib")
    list_filter = ("cluster", "online")
    list_select_related = ("cluster",)


@admin.register(Tier)
class TierAdmin(admin.ModelAdmin):
    list_display = ("name", "cores", "memory_mib", "disk_gib", "position")


class SnapshotInline(ReadOnlyInline):
    model = Snapshot
    fields = ("name", "note", "ready", "created_at")
    readonly_fields = ("created_at",)


@admin.register(Machine)
class MachineAdmin(ReadOnly):
    list_display = ("name", "state", "owner", "cluster", "template", "power", "state_since", "on_portal")
    list_filter = ("state", "cluster", "power", "adopted")
    list_select_related = ("cluster", "template", "owner")
    search_fields = ("name", "ref", "owner__username")
    exclude = ("password", "ssh_private_key")
    inlines = (SnapshotInline,)
    actions = ("start", "stop", "force_off", "retry", "release", "allow_destroying", "forbid_destroying")

    @admin.display(description=_("page"))
    def on_portal(self, machine: Machine) -> str:
        return format_html('<a href="/machines/{}/">{}</a>', machine.key, _("Open"))

    @admin.action(description=_("Start"))
    def start(self, request: HttpRequest, machines: QuerySet[Machine]) -> None:
        self._ask(request, machines, requests.start)

    @admin.action(description=_("Shut down"))
    def stop(self, request: HttpRequest, machines: QuerySet[Machine]) -> None:
        self._ask(request, machines, requests.stop)

    @admin.action(description=_("Force off"))
    def force_off(self, request: HttpRequest, machines: QuerySet[Machine]) -> None:
        self._ask(request, machines, requests.force_off)

    @admin.action(description=_("Try again"))
    def retry(self, request: HttpRequest, machines: QuerySet[Machine]) -> None:
        self._ask(request, machines, requests.retry)

    @admin.action(description=_("Release (adopted machines): take the portal's label off, leave the machine as it is"))
    def release(self, request: HttpRequest, machines: QuerySet[Machine]) -> None:
        self._ask(request, machines, adoption.release)

    @admin.action(description=_("Allow to delete and resize (adopted machines)"))
    def allow_destroying(self, request: HttpRequest, machines: QuerySet[Machine]) -> None:
        self._allow(request, machines, True)

    @admin.action(description=_("Forbid to delete and resize (adopted machines)"))
    def forbid_destroying(self, request: HttpRequest, machines: QuerySet[Machine]) -> None:
        self._allow(request, machines, False)

    def _allow(self, request: HttpRequest, machines: QuerySet[Machine], allowed: bool) -> None:
        for machine in machines.select_related(None):
            try:
                adoption.allow_destroying(machine, allowed, acting_user=person(request))
                self.message_user(request, (_("%(machine)s may be deleted now.") if allowed else _("%(machine)s is kept.")) % {"machine": machine})
            except Refused as refusal:
                self.message_user(request, refusal.message, messages.WARNING)

    def _ask(self, request: HttpRequest, machines: QuerySet[Machine], service: Callable[..., Operation]) -> None:
        asked = 0
        for machine in machines.select_related(None):
            try:
                service(machine, acting_user=request.user)
                asked += 1
            except Refused as refusal:
                self.message_user(request, refusal.message, messages.WARNING)
        if asked:
            self.message_user(request, ngettext("Asked for on %(count)d machine.", "Asked for on %(count)d machines.", asked) % {"count": asked})


class OperationEventInline(ReadOnlyInline):
    model = OperationEvent
    fields = ("at", "level", "text")
    readonly_fields = ("at",)


@admin.register(Operation)
class OperationAdmin(ReadOnly):
    list_display = ("key", "kind", "machine", "state", "requested_by", "priority", "attempt", "created_at", "message")
    list_filter = ("state", "kind", "priority", "machine__cluster")
    list_select_related = ("machine", "requested_by")
    search_fields = ("=key", "machine__name", "requested_by__username")
    exclude = ("lease",)
    inlines = (OperationEventInline,)
    actions = ("cancel",)

    @admin.action(description=_("Cancel"))
    def cancel(self, request: HttpRequest, operations: QuerySet[Operation]) -> None:
        for operation in operations.select_related("machine"):
            try:
                requests.cancel(operation, acting_user=request.user)  # type: ignore[arg-type]  # the admin lets nobody anonymous in
            except Refused as refusal:
                self.message_user(request, refusal.message, messages.WARNING)


@admin.register(OperationEvent)
class OperationEventAdmin(ReadOnly):
    list_display = ("at", "level", "text", "operation")
    list_filter = ("level",)
    list_select_related = ("operation",)
    search_fields = ("text", "=operation__key")


@admin.register(Batch)
class BatchAdmin(ReadOnly):
    list_display = ("title", "requested_by", "created_at")
    list_select_related = ("requested_by",)
    search_fields = ("title",)


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnly):
    list_display = ("name", "at")
