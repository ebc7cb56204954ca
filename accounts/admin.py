"""People and the record of what they did."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import UserChangeForm
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.services import roles

from .admin_audit import AuditEntryAdmin
from .admin_read_only import ReadOnly
from .models import Role, User

__all__ = ["AuditEntryAdmin", "PersonAdmin", "ReadOnly"]


class PersonForm(UserChangeForm):
    acting_user: User  # set by PersonAdmin.get_form

    def clean_role(self) -> str:
        role: str = self.cleaned_data["role"]
        if refusal := roles.refusal(self.instance, Role(role), acting_user=self.acting_user):
            raise forms.ValidationError(refusal)
        return role


@admin.register(User)
class PersonAdmin(UserAdmin):
    """The role is given by the service, which keeps `is_staff` in step and records it."""

    form = PersonForm
    list_display = ("username", "email", "first_name", "last_name", "role", "is_active", "last_login")
    list_filter = ("role", "is_active", "is_superuser")
    list_per_page = 50
    show_full_result_count = False
    readonly_fields = ("is_staff", "last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Person"), {"fields": ("first_name", "last_name", "email", "keyboard")}),
        (_("Rights"), {"fields": ("role", "is_active", "is_staff", "is_superuser")}),
        (_("Dates"), {"fields": ("last_login", "date_joined")}),
    )
    filter_horizontal = ()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Only a superuser makes superusers."""
        return self.readonly_fields if request.user.is_superuser else (*self.readonly_fields, "is_superuser")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and obj.is_superuser and not request.user.is_superuser:
            return False
        return super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and obj.is_superuser and not request.user.is_superuser:
            return False
        return super().has_delete_permission(request, obj)

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]  # as UserAdmin has it
        form = super().get_form(request, obj, **kwargs)
        if obj is None:
            return form
        return type(form.__name__, (form,), {"acting_user": request.user})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        role = obj.role
        if change:
            obj.role = form.initial.get("role", role)
        super().save_model(request, obj, form, change)
        if change and role != obj.role:
            roles.set_role(obj, role, acting_user=request.user)  # type: ignore[arg-type]  # the admin lets nobody anonymous in
