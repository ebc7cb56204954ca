"""How the list of the record is narrowed and searched."""

import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from django.apps import apps
from django.contrib import admin
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .models import AuditEntry, User
from .record_words import GROUPS

_ACTION = re.compile(r"[a-z_]+\.[a-z_]*", re.ASCII)
_OURS = {"accounts", "machines", "classes", "lab_sessions", "console"}
# What most entries are about, in this order.
_KINDS = ("user", "machine", "machinerequest", "operation", "labclass", "cluster", "template", "tier", "apitoken", "sshkey", "rolepolicy")
# What has a page in the portal: its address by the key.
_PAGES = {"machine": "machines:machine", "labclass": "classes:lab_class", "operation": "machines:operation"}


def search(term: str) -> Q:
    """Whichever of these the term looks like: an address or a key; otherwise a name, or part of one. What looks like an
    action, or the beginning of one, may be either: anna.maier is somebody's user name."""
    try:
        return Q(address=str(ip_address(term)))
    except ValueError:
        pass
    try:
        return Q(object_id=str(UUID(term)))
    except ValueError:
        pass
    people = User.objects.filter(Q(username__iexact=term) | Q(email__iexact=term) | Q(first_name__iexact=term) | Q(last_name__iexact=term))
    named = Q(actor_id__in=list(people.values_list("pk", flat=True)[:100])) | Q(actor_name__icontains=term) | Q(object_name__icontains=term)
    return named | Q(action__startswith=term) if _ACTION.fullmatch(term) else named


def page_of(kind: str, number: str) -> str:
    """The page of an object in the portal or the admin, or nothing."""
    try:
        if kind in _PAGES:
            return reverse(_PAGES[kind], args=[UUID(number)])
        model = _models().get(kind)
        if model is None or not admin.site.is_registered(model) or not number.isdecimal():
            return ""
        return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[number])
    except (NoReverseMatch, ValueError):
        return ""


def _models() -> dict[str, type[Model]]:
    return {str(model._meta.model_name): model for model in apps.get_models() if model._meta.app_label in _OURS}


class Period(admin.ListFilter):
    """From one day to another, both included, in the zone the pages are shown in."""

    title = gettext_lazy("time")
    template = "admin/accounts/auditentry/period.html"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: type[Model], model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.others = [(name, value) for name, value in request.GET.items() if name not in {"since", "until", "p"}]
        self.since, self.until = (_day(params, name) for name in ("since", "until"))
        self.used_parameters = {name: day.isoformat() for name, day in (("since", self.since), ("until", self.until)) if day}

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return ["since", "until"]

    def choices(self, changelist: Any) -> Iterator[Any]:
        today = timezone.localdate()
        for name, since in [
            (_("Any time"), None),
            (_("Today"), today),
            (_("The last 7 days"), today - timedelta(days=6)),
            (_("The last 30 days"), today - timedelta(days=29)),
        ]:
            query = changelist.get_query_string({"since": since.isoformat()} if since else None, remove=["until"] if since else ["since", "until"])
            yield {"selected": self.since == since and self.until is None, "query_string": query, "display": name}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.since:
            queryset = queryset.filter(at__gte=_midnight(self.since))
        if self.until:
            queryset = queryset.filter(at__lt=_midnight(self.until + timedelta(days=1)))
        return queryset


def _day(params: dict[str, Any], name: str) -> date | None:
    """A day that is none narrows nothing, nor does one of the first and the last years, which not every zone can tell."""
    try:
        day = parse_date(params.pop(name, [""])[-1])
    except ValueError:
        return None
    return day if day and 1900 <= day.year < 3000 else None


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))


class Group(admin.SimpleListFilter):
    title = gettext_lazy("what it is about")
    parameter_name = "group"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, str(label)) for name, (label, _prefixes) in GROUPS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        found = Q()
        for prefix in GROUPS[value][1] if (value := self.value()) in GROUPS else ():
            found |= Q(action__startswith=prefix)
        return queryset.filter(found)


class Result(admin.SimpleListFilter):
    title = gettext_lazy("result")
    parameter_name = "result"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("ok", _("Done")), ("not", _("Refused or failed"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "ok":
                return queryset.filter(outcome="ok")
            case "not":
                return queryset.filter(~Q(outcome="ok"))
        return queryset


class Kind(admin.SimpleListFilter):
    title = gettext_lazy("kind of object")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        models = _models()
        return [(kind, str(capfirst(models[kind]._meta.verbose_name))) for kind in _KINDS if kind in models]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(object_type=self.value()) if self.value() else queryset


class OfPerson(admin.SimpleListFilter):
    """Shown where the list is that of one person."""

    title = gettext_lazy("person")
    parameter_name = "actor"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        number = request.GET.get(self.parameter_name, "")
        if not number.isdecimal() or len(number) > 18:
            return []
        user = User.objects.filter(pk=number).first()
        entry = None if user else AuditEntry.objects.filter(actor_id=int(number)).first()
        return [(number, user.unmistakable if user else entry.actor_name if entry else number)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset.filter(actor_id=int(value)) if value else queryset


class OfObject(admin.SimpleListFilter):
    """Shown where the list is that of one object, by "type:id"."""

    title = gettext_lazy("object")
    parameter_name = "object"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        kind, colon, number = request.GET.get(self.parameter_name, "").partition(":")
        if not colon:
            return []
        entry = AuditEntry.objects.filter(object_type=kind, object_id=number).first()
        return [(f"{kind}:{number}", entry.object_name if entry else number)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        kind, _colon, number = (self.value() or "").partition(":")
        return queryset.filter(object_type=kind, object_id=number) if kind else queryset
