"""The admin of the machines app. What the portal decides (states, operations, what was seen) can be
read here and never written; secrets can be written and never read."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts.admin import ReadOnly
from machines import admin_requests  # noqa: F401 - registers itself
from machines.models import Batch, Cluster, Heartbeat, Machine, Node, Operation, OperationEvent, Snapshot, Template, Tier
from machines.selectors.load import limit
from machines.services import requests
from machines.services.refusal import Refused


class ReadOnlyInline(admin.TabularInline):
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


LIMITS = ("limit_create", "limit_power", "limit_per_template", "limit_booting", "stop_deadline")


class ClusterForm(forms.ModelForm):
    """The secret is written here and shown nowhere."""

    new_secret = forms.CharField(
        label=_("New secret"), required=False, strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}), help_text=_("Empty: as it is.")
    )

    class Meta:
        model = Cluster
        fields = ("name", "kind", "config", "networks", "maintenance", *LIMITS)

    def clean_config(self) -> dict[str, Any]:
        config = self.cleaned_data["config"]
        if not isinstance(config, dict):
            raise forms.ValidationError(_('Settings by name are expected, for example {"uri": "qemu:///system"}.'))
        return config

    def save(self, commit: bool = True) -> Any:
        if secret := self.cleaned_data.get("new_secret"):
            self.instance.secret = secret
        return super().save(commit)


@admin.register(Cluster)
class ClusterAdmin(admin.ModelAdmin):
    form = ClusterForm
    list_display = ("name", "kind", "reachable", "seen_at", "maintenance", "problem")
    list_filter = ("kind", "reachable", "maintenance")
    seen = ("reachable", "seen_at", "problem", "at_once_now", "has_secret")
    readonly_fields = seen
    fieldsets = (
        (None, {"fields": ("name", "kind", "config", "new_secret", "networks", "maintenance")}),
        (_("Limits"), {"fields": LIMITS}),
        (_("Seen"), {"fields": seen}),
    )

    @admin.display(description=_("at once now"))
    def at_once_now(self, cluster: Cluster) -> str:
        """The limits, lowered for a while where the cluster was overloaded."""
        return _("%(create)d made, %(power)d switched on or off") % {"create": limit(cluster, "create"), "power": limit(cluster, "power")}

    @admin.display(boolean=True, description=_("secret is set"))
    def has_secret(self, cluster: Cluster) -> bool:
        return bool(cluster.secret)


@admin.register(Node)
class NodeAdmin(ReadOnly):
    list_display = ("name", "cluster", "online", "cores", "memory_total_mib", "memory_free_mib")
    list_filter = ("cluster", "online")
    list_select_related = ("cluster",)


@admin.register(Template)
class TemplateAdmin(admin.ModelAdmin):
    """Templates are found on the clusters; here they get their words and sizes."""

    list_display = ("name", "cluster", "ref", "active", "present", "cores", "memory_mib", "disk_gib")
    list_filter = ("cluster", "active", "present")
    list_select_related = ("cluster",)
    search_fields = ("name", "ref")
    readonly_fields = ("present",)

    def get_readonly_fields(self, request: HttpRequest, obj: Template | None = None) -> tuple[str, ...]:
        """What a template is on its cluster is not changed under the machines made of it."""
        return (*self.readonly_fields, "cluster", "ref") if obj else self.readonly_fields


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
    list_filter = ("state", "cluster", "power")
    list_select_related = ("cluster", "template", "owner")
    search_fields = ("name", "ref", "owner__username")
    exclude = ("password", "ssh_private_key")
    inlines = (SnapshotInline,)
    actions = ("start", "stop", "force_off", "retry")

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
