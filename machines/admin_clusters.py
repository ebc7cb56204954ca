"""Clusters and what is offered of them. The pages record wishes; the watcher talks to the hypervisors."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from accounts.admin_recorded import changes
from accounts.http import person
from accounts.services import audit
from machines.admin_adoption import Adoption, cluster_page
from machines.forms_clusters import LIMITS, PEOPLE, TRUST, ClusterForm, ProxmoxForm
from machines.models import BurnedRef, Cluster, ClusterKind, ClusterReport, Node, Template
from machines.models.cluster import Audience
from machines.selectors.load import limit
from machines.services import adoption, checking, leftovers

SECRETS = ("new_secret", "new_terminal_password", "forget_terminal_password")
PLACES = ("first_vmid", "last_vmid", "pool", "bridge", "storages", "nodes", "reserve_mib", "template_copies")


def _report(cluster: Cluster) -> tuple[ClusterReport | None, int]:
    """The last test of the connection, and how much of it failed."""
    report = ClusterReport.objects.filter(cluster=cluster, checked_at__isnull=False).first()
    return report, sum(not line["ok"] for line in report.checks) if report else 0


@admin.register(Cluster)
class ClusterAdmin(Adoption, admin.ModelAdmin):
    records_itself = True
    form = ClusterForm
    change_form_template = "admin/machines/cluster/change_form.html"
    list_display = ("name", "kind", "reachable", "seen_at", "maintenance", "problem")
    list_filter = ("kind", "reachable", "maintenance")
    seen = ("reachable", "seen_at", "problem", "at_once_now", "disks_left", "has_secret")
    readonly_fields = ("checked", *seen)

    # -- the form ----------------------------------------------------------------------------------

    def _is_proxmox(self, request: HttpRequest, cluster: Cluster | None) -> bool:
        kind = cluster.kind if cluster else request.POST.get("kind") or request.GET.get("kind")
        return kind == ClusterKind.PROXMOX

    def get_form(self, request: HttpRequest, obj: Cluster | None = None, change: bool = False, **kwargs: Any) -> Any:
        kwargs["form"] = ProxmoxForm if self._is_proxmox(request, obj) else ClusterForm
        form: Any = super().get_form(request, obj, change, **kwargs)  # a class of this request's own
        form.by_superuser = person(request).is_superuser
        return form

    def get_fieldsets(self, request: HttpRequest, obj: Cluster | None = None) -> Any:
        if self._is_proxmox(request, obj):
            first = [
                (None, {"fields": ("kind", "name", "maintenance", "endpoints", "account", *SECRETS)}),
                (_("Whom to trust"), {"fields": TRUST}),
                (
                    _("Where machines are made"),
                    {"fields": PLACES},
                ),
                (_("People of the cluster"), {"fields": PEOPLE}),
                (_("Addresses"), {"fields": ("networks", "active_scan")}),
            ]
        else:
            first = [(None, {"fields": ("name", "kind", "config", "new_secret", "networks", "maintenance")})]
        if obj:
            first.insert(0, (None, {"fields": ("checked",)}))
        return [*first, (_("Limits"), {"fields": LIMITS}), *([(_("Seen"), {"fields": self.seen})] if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Cluster | None = None) -> tuple[str, ...]:
        """A cluster stays of its kind while it has machines."""
        fixed = obj is not None and not self._is_proxmox(request, obj) and obj.machines.exists()
        return (*self.readonly_fields, "kind") if fixed else self.readonly_fields

    def save_model(self, request: HttpRequest, obj: Cluster, form: Any, change: bool) -> None:
        """Only what the form has: the watcher writes the rest meanwhile."""
        if change:
            columns = {field.name for field in obj._meta.concrete_fields} & {*form.fields}
            obj.save(update_fields=[*columns, "config", "kind", "secret", "terminal_password"])
        else:
            super().save_model(request, obj, form, change)
        action = "cluster.change" if change else "cluster.add"
        audit.record(action, acting_user=person(request), target=obj, fields=form.changed_data, values=changes(form))
        checking.ask(obj, acting_user=person(request))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What the watcher wrote down goes with its cluster, without a permission of its own."""
        to_delete, counts, needed, protected = super().get_deleted_objects(objs, request)
        seen = {str(model._meta.verbose_name) for model in (Node, ClusterReport, BurnedRef)}
        return to_delete, counts, needed - seen, protected

    # -- what was seen -----------------------------------------------------------------------------

    @admin.display(description=_("at once now"))
    def at_once_now(self, cluster: Cluster) -> str:
        """The limits, lowered for a while where the cluster was overloaded."""
        return _("%(create)d made, %(power)d switched on or off") % {"create": limit(cluster, "create"), "power": limit(cluster, "power")}

    @admin.display(description=_("disks left"))
    def disks_left(self, cluster: Cluster) -> Any:
        """What an administrator of the cluster has to look for, since a removal had warnings."""
        disks = leftovers.recent(cluster)
        return _("May still be there after a removal with warnings: %(disks)s") % {"disks": ", ".join(disks)} if disks else _("none")

    @admin.display(boolean=True, description=_("secret is set"))
    def has_secret(self, cluster: Cluster) -> bool:
        return bool(cluster.secret)

    @admin.display(description=_("connection"))
    def checked(self, cluster: Cluster) -> Any:
        """What the last test of the connection said, in a word."""
        report, failed = _report(cluster)
        said: Any
        if cluster.check_asked_at:
            said = _("is being tested")
        elif report is None:
            said = _("not tested yet")
        else:
            said = ngettext("%(count)d thing does not work", "%(count)d things do not work", failed) % {"count": failed} if failed else _("everything works")
        return format_html('<a href="{}">{}</a>', reverse("admin:machines_cluster_check", args=[cluster.pk]), said)

    # -- wishes ------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        own = [
            path("<int:pk>/check/", view(self.check_view), name="machines_cluster_check"),
            path("<int:pk>/sync/", view(self.sync_view), name="machines_cluster_sync"),
        ]
        return [*own, *super().get_urls()]

    def of(self, request: HttpRequest, pk: int) -> Cluster:
        cluster = get_object_or_404(Cluster, pk=pk)
        if not self.has_change_permission(request, cluster):
            raise PermissionDenied
        return cluster

    def check_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What the last test said, line by line; a POST asks for another."""
        cluster = self.of(request, pk)
        if request.method == "POST":
            checking.ask(cluster, acting_user=person(request))
            return redirect(request.path)
        report, failed = _report(cluster)
        lines = sorted(report.checks, key=lambda line: bool(line["ok"])) if report else []
        pending = cluster.check_asked_at is not None
        return cluster_page(self, request, cluster, "check", title=_("Test connection"), report=report, failed=failed, lines=lines, pending=pending)

    @method_decorator(require_POST)
    def sync_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        cluster = self.of(request, pk)
        checking.ask_sync(cluster, acting_user=person(request))
        self.message_user(request, _("The templates are being read. They are in the list in a few seconds."))
        return redirect(reverse("admin:machines_cluster_change", args=[pk]))

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        cluster = kwargs.get("obj") or context.get("original")
        context["can_adopt"] = cluster is not None and adoption.can_adopt(cluster)
        response: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return response


@admin.register(Template)
class TemplateAdmin(admin.ModelAdmin):
    """Templates are found on the clusters; here they get their words and sizes, and who may use them."""

    list_display = ("name", "cluster", "kind", "seeded", "active", "audience", "present", "cores", "memory_mib", "disk_gib")
    list_filter = ("cluster", "kind", "active", "audience", "present")
    list_select_related = ("cluster",)
    search_fields = ("name", "ref")
    readonly_fields = ("kind", "present")
    autocomplete_fields = ("people",)
    filter_horizontal = ("tiers",)
    actions = ("sync", "for_everybody", "for_teachers", "for_staff")

    def get_readonly_fields(self, request: HttpRequest, obj: Template | None = None) -> tuple[str, ...]:
        """What a template is on its cluster is not changed under the machines made of it."""
        return (*self.readonly_fields, "cluster", "ref") if obj else self.readonly_fields

    def _offer(self, request: HttpRequest, templates: Any, audience: Audience) -> None:
        templates.update(audience=audience, active=True)
        for template in templates:
            audit.record("template.offer", acting_user=person(request), target=template, audience=str(audience))

    @admin.action(description=_("Offer to everybody"))
    def for_everybody(self, request: HttpRequest, templates: Any) -> None:
        self._offer(request, templates, Audience.EVERYBODY)

    @admin.action(description=_("Offer to teachers and staff"))
    def for_teachers(self, request: HttpRequest, templates: Any) -> None:
        self._offer(request, templates, Audience.TEACHERS)

    @admin.action(description=_("Offer to staff alone"))
    def for_staff(self, request: HttpRequest, templates: Any) -> None:
        self._offer(request, templates, Audience.STAFF)

    @admin.action(description=_("Read the templates of these clusters now"))
    def sync(self, request: HttpRequest, templates: Any) -> None:
        for cluster in Cluster.objects.filter(pk__in=templates.values("cluster")):
            checking.ask_sync(cluster, acting_user=person(request))
        self.message_user(request, _("The templates are being read. They are in the list in a few seconds."), messages.SUCCESS)
