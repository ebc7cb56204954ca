"""The admin of the classes app. Classes are run on their pages; here they are read, and handed to another teacher."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from accounts.admin import ReadOnly
from accounts.models import Role, User
from machines.admin import ReadOnlyInline

from .models import Enrolment, Invite, LabClass, PoolMachine
from .services.classes import hand_over


class InviteInline(ReadOnlyInline):
    model = Invite
    fields = ("created_by", "created_at", "expires_at", "max_uses", "uses", "revoked_at")
    readonly_fields = fields  # without the token: it would let its reader in


@admin.register(LabClass)
class LabClassAdmin(admin.ModelAdmin):
    records_itself = True
    list_display = ("name", "teacher", "template", "created_at", "archived_at")
    list_filter = (("archived_at", admin.EmptyFieldListFilter),)
    list_select_related = ("teacher", "template")
    list_per_page = 50
    search_fields = ("name", "slug", "teacher__username")
    fields = ("name", "slug", "teacher", "template", "cores", "memory_mib", "disk_gib", "directory_group", "key", "created_at", "archived_at")
    readonly_fields = tuple(name for name in fields if name != "teacher")
    inlines = (InviteInline,)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "teacher":
            kwargs["queryset"] = User.objects.filter(role__in=[Role.TEACHER, Role.STAFF], is_active=True)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: LabClass, form: Any, change: bool) -> None:
        assert isinstance(request.user, User)  # the admin is for staff
        hand_over(obj, obj.teacher, acting_user=request.user)


@admin.register(PoolMachine)
class PoolMachineAdmin(ReadOnly):
    list_display = ("machine", "lab_class", "enrolment", "assigned_at", "retired_at")
    list_select_related = ("machine", "lab_class", "enrolment__student", "enrolment__lab_class")
    list_filter = (("retired_at", admin.EmptyFieldListFilter), ("enrolment", admin.EmptyFieldListFilter))
    search_fields = ("machine__name", "lab_class__name", "enrolment__student__username")


@admin.register(Enrolment)
class EnrolmentAdmin(ReadOnly):
    list_display = ("student", "lab_class", "joined_at", "from_directory", "left_group_at")
    list_filter = ("from_directory", ("left_group_at", admin.EmptyFieldListFilter))
    list_select_related = ("student", "lab_class")
    search_fields = ("student__username", "student__last_name", "lab_class__name")
