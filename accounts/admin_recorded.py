"""What is done in the admin is on the record, whatever is registered there."""

import json
from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.forms import BaseModelForm
from django.http import HttpRequest

from accounts.http import person
from accounts.services import audit

from .admin_queries import OrdinaryLookups, without_nul

# Of fields of these kinds the record tells the value before and after, of all others only that they changed.
_PLAIN = (models.BooleanField, models.IntegerField, models.FloatField, models.DateField)


class Recorded(admin.ModelAdmin):
    """Django's own history beside it is neither append-only nor searchable. What a class with `records_itself = True` adds
    and changes is left to the entries of the services it calls."""

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        request.changes_recorded = changes(form)  # type: ignore[attr-defined]  # for log_change of this request
        return super().construct_change_message(request, form, formsets, add)

    def log_addition(self, request: HttpRequest, obj: models.Model, message: Any) -> Any:
        if not self._leaves_it_to_services():
            self._record(request, "add", obj, message)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: models.Model, message: Any) -> Any:
        if not self._leaves_it_to_services():
            self._record(request, "change", obj, message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Iterable[models.Model]) -> Any:
        for obj in queryset:
            self._record(request, "delete", obj, "")
        return super().log_deletions(request, queryset)  # type: ignore[arg-type]  # Django itself passes a list too

    def _leaves_it_to_services(self) -> bool:
        return bool(getattr(self, "records_itself", False))  # of the class this is wrapped around

    def _record(self, request: HttpRequest, what: str, obj: models.Model, message: Any) -> None:
        data: dict[str, Any] = {}
        if isinstance(message, str):
            data["message"] = message[:500]
        else:
            parts = [{"what": what, **part} for entry in message for what, part in entry.items()]
            data["fields"] = [str(name) for part in parts if "name" not in part for name in part.get("fields", ())]
            data["related"] = [json.loads(json.dumps(part, default=str)) for part in parts if "name" in part]
            data["values"] = getattr(request, "changes_recorded", {})
        audit.record(f"admin.{what}", acting_user=person(request), target=obj, **{name: value for name, value in data.items() if value})


def changes(form: Any) -> dict[str, list[Any]]:
    """What changed by this form, before and after, as far as the record tells it."""
    if not isinstance(form, BaseModelForm) or form.instance is None:
        return {}
    values = {}
    for name in form.changed_data:
        try:
            field = form.instance._meta.get_field(name)
        except FieldDoesNotExist:
            continue
        if isinstance(field, _PLAIN) or (isinstance(field, models.CharField) and field.choices):
            values[name] = [_plain(form.initial.get(name)), _plain(form.cleaned_data.get(name))]
    return values


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | None) else str(value)


class RecordingSite(admin.AdminSite):
    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """With `Recorded` and `OrdinaryLookups` around it, wherever it comes from."""
        admin_class = admin_class or admin.ModelAdmin
        admin_class = type(admin_class.__name__, (Recorded, OrdinaryLookups, admin_class), {"__module__": admin_class.__module__})
        super().register(model_or_iterable, admin_class, **options)

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        return super().admin_view(without_nul(view), cacheable)
