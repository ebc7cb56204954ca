from django.contrib import admin

from accounts.admin import ReadOnly

from .models import ConsoleTicket


@admin.register(ConsoleTicket)
class ConsoleTicketAdmin(ReadOnly):
    """Who has which console open, and had lately. To read only: a ticket is made by asking for it."""

    list_display = ["machine", "user", "kind", "view_only", "used_at", "seen_at", "ended_at", "ending"]
    list_filter = ["kind", "view_only", "ending"]
    list_select_related = ["machine", "user"]
    search_fields = ["machine__name", "user__username"]
    exclude = ["digest"]
