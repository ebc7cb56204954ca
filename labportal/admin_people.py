"""People in the admin, with what every app knows of them."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from accounts.admin_people import GoneFilter, PeopleAdmin, RemovalFilter, SecondFactorFilter
from accounts.models import DIRECTORY, AuditEntry, Identity, User
from accounts.record_words import name_of_actor, sentence
from classes.models import Enrolment, LabClass
from machines.lifecycle import State
from machines.models import Machine, MachineRequest, RealmIdentity
from machines.selectors.quotas import quota_of

_ROWS = 8
Row = tuple[Any, str, Any, Any]  # what it is, its page, its state, and where or when


class SourceFilter(admin.SimpleListFilter):
    """Where the account is that somebody signs in with."""

    title, parameter_name = _("source"), "source"
    LOCAL, REALM, SSO = "local", "realm", "sso"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(self.LOCAL, _("This portal")), (DIRECTORY, _("Directory")), (self.SSO, _("Single sign-on")), (self.REALM, _("Proxmox realm"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        identities, realms = Identity.objects.filter(user=OuterRef("pk")), RealmIdentity.objects.filter(user=OuterRef("pk"))
        match self.value():
            case self.LOCAL:
                return queryset.filter(~Exists(identities), ~Exists(realms))
            case self.REALM:
                return queryset.filter(Exists(realms))
            case self.SSO:
                return queryset.filter(Exists(identities.filter(source__startswith="sso:")))
            case source if source == DIRECTORY:
                return queryset.filter(Exists(identities.filter(source=DIRECTORY)))
        return queryset


@admin.register(User)
class PersonAdmin(PeopleAdmin):
    list_display: Any = ("username", "full_name", "email", "role", "source", "machines_count", "is_active", "last_login")
    list_filter = ("role", "is_active", SourceFilter, SecondFactorFilter, GoneFilter, RemovalFilter, "is_superuser")
    search_fields = (*PeopleAdmin.search_fields, "realm_identities__userid")
    readonly_fields = (*PeopleAdmin.readonly_fields, "used")
    fieldsets = tuple(
        (name, {**options, "fields": ("used", *options["fields"])}) if "limits" in options.get("classes", ()) else (name, options)
        for name, options in PeopleAdmin.fieldsets
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        theirs = Machine.objects.filter(owner=OuterRef("pk")).exclude(state=State.DESTROYED).order_by().values("owner").annotate(count=Count("pk"))
        found: QuerySet[User] = super().get_queryset(request).annotate(machines_count=theirs.values("count"))
        return found.prefetch_related("identities", "realm_identities")

    @admin.display(description=_("source"))
    def source(self, user: User) -> str:
        sources = [str(_("Directory")) if identity.source == DIRECTORY else identity.source.removeprefix("sso:") for identity in user.identities.all()]
        sources += [identity.userid for identity in user.realm_identities.all()]
        return ", ".join(sources) or str(_("This portal"))

    @admin.display(description=_("machines"), ordering="machines_count")
    def machines_count(self, user: Any) -> int:
        return user.machines_count or 0

    @admin.display(description=_("used now"))
    def used(self, user: User) -> str:
        return render_to_string("admin/accounts/user/_quota.html", {"quota": quota_of(user)})

    def sections(self, request: HttpRequest, user: User) -> list[dict[str, Any]]:
        machines = Machine.objects.filter(owner=user).exclude(state=State.DESTROYED).select_related("cluster").order_by("name")
        requests = MachineRequest.objects.filter(requester=user).select_related("template", "tier")
        teaches = LabClass.objects.filter(teacher=user).order_by("name")
        attends = Enrolment.objects.filter(student=user).select_related("lab_class").order_by("-id")
        history = AuditEntry.objects.filter(Q(actor=user) | Q(object_type="user", object_id=str(user.pk))).select_related("actor")

        def machine_row(machine: Machine) -> Row:
            return machine.name, reverse("machines:machine", args=[machine.key]), machine.get_state_display(), machine.cluster

        def request_row(asked: MachineRequest) -> Row:
            return asked, reverse("admin:machines_machinerequest_change", args=[asked.pk]), asked.get_state_display(), asked.created_at

        def class_row(lab_class: LabClass) -> Row:
            return lab_class.name, reverse("classes:lab_class", args=[lab_class.key]), _("over") if lab_class.archived_at else "", lab_class.created_at

        def enrolment_row(enrolment: Enrolment) -> Row:
            return enrolment.lab_class.name, reverse("classes:lab_class", args=[enrolment.lab_class.key]), "", enrolment.joined_at

        def entry_row(entry: AuditEntry) -> Row:
            told = sentence(entry, name_of_actor(entry), entry.object_name)
            return told, reverse("admin:accounts_auditentry_change", args=[entry.pk]), "" if entry.outcome == "ok" else entry.outcome, entry.at

        return [
            _section(_("Machines"), machines, machine_row, "machines_machine", q=user.username),
            _section(_("Requests"), requests, request_row, "machines_machinerequest", q=user.username, state="all"),
            _section(_("Classes they run"), teaches, class_row, "classes_labclass", q=user.username),
            _section(_("Classes they are in"), attends, enrolment_row, "classes_enrolment", q=user.username),
            _section(_("Record"), history, entry_row, "accounts_auditentry", q=user.username),
        ]


def _section(title: Any, found: QuerySet[Any], row: Callable[[Any], Row], model: str, **query: str) -> dict[str, Any]:
    rows = [row(one) for one in found[: _ROWS + 1]]
    return {"title": title, "rows": rows[:_ROWS], "more": len(rows) > _ROWS, "all": f"{reverse(f'admin:{model}_changelist')}?{urlencode(query)}"}
