from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from .models import ConsoleTicket


@admin.register(ConsoleTicket)
class ConsoleTicketAdmin(admin.ModelAdmin):
    """Who has which console open, and had lately. To read only: a ticket is made by asking for it."""

    list_display = ["machine", "user", "kind", "view_only", "used_at", "seen_at", "ended_at", "ending"]
    list_filter = ["kind", "view_only", "ending"]
    list_select_related = ["machine", "user"]
    search_fields = ["machine__name", "user__username"]
    exclude = ["digest"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
