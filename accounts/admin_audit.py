"""The record in the admin: searched, narrowed, and taken away as a file."""

import json
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.handlers.asgi import ASGIRequest
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from accounts.http import person
from accounts.services import audit

from . import admin_audit_filters as filters
from . import record_words
from .admin_read_only import ReadOnly
from .models import AuditEntry
from .record_file import FORMATS, pieces, pieces_in_turn

# Nobody turns the pages of more, and counting a million rows takes longer than reading a page of them.
MOST_COUNTED = 10_000


class BoundedPaginator(Paginator):
    object_list: QuerySet[AuditEntry]

    @cached_property
    def count(self) -> int:
        return self.object_list.order_by()[:MOST_COUNTED].count()


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly):
    list_display = ("moment", "what_happened", "result", "address", "through")
    list_display_links = ("moment",)
    list_filter = (filters.Period, filters.Group, filters.Result, filters.Kind, filters.OfPerson, filters.OfObject)
    list_per_page = 100
    list_max_show_all = 100
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("actor_name",)  # shows the field; what is looked for is in get_search_results
    search_help_text = _("A person, an object or its key, an address such as 192.0.2.7, or an action such as machine.start or user.")
    paginator = BoundedPaginator
    sortable_by = ()
    change_list_template = "admin/accounts/auditentry/change_list.html"
    fields = ("moment", "what_happened", "code", "person", "target", "result", "address", "through", "details")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEntry]:
        return super().get_queryset(request).prefetch_related("actor")  # a join leaves out those of people who are gone

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        return ("-id",)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        return (queryset.filter(filters.search(term)) if term else queryset), False

    # -- an entry -----------------------------------------------------------------------------------

    @admin.display(description=_("when"))
    def moment(self, entry: AuditEntry) -> str:
        return date_format(timezone.localtime(entry.at), "Y-m-d H:i:s")

    @admin.display(description=_("action"))
    def code(self, entry: AuditEntry) -> str:
        return entry.action

    @admin.display(description=_("what"))
    def what_happened(self, entry: AuditEntry) -> str:
        return record_words.sentence(entry, self.person(entry), self._linked_object(entry))

    @admin.display(description=_("who"))
    def person(self, entry: AuditEntry) -> str:
        name = record_words.name_of_actor(entry)
        if entry.actor is None:
            return name
        return format_html('<a href="{}">{}</a>', reverse("admin:accounts_user_change", args=[entry.actor_id]), name)

    @admin.display(description=_("object"))
    def target(self, entry: AuditEntry) -> str | None:
        if not entry.object_id:
            return entry.object_name or None
        return format_html(
            '{} {} (<a href="{}">{}</a>)', entry.object_type, self._linked_object(entry), history_of_object(entry), _("everything recorded of it")
        )

    def _linked_object(self, entry: AuditEntry) -> str:
        name = entry.object_name or "?"
        page = filters.page_of(entry.object_type, entry.object_id)
        return format_html('<a href="{}">{}</a>', page, name) if page else name

    @admin.display(description=_("result"))
    def result(self, entry: AuditEntry) -> str:
        return format_html('<span class="tone {}">{}</span>', "tone-on" if entry.outcome == "ok" else "tone-bad", entry.outcome)

    @admin.display(description=_("through"))
    def through(self, entry: AuditEntry) -> str | None:
        """By a token of the API, or by staff who looked at the portal as this person."""
        if token := entry.data.get("token_name"):
            return format_html("{} {}", _("API token"), token)
        if staff := entry.data.get("viewed_by"):
            return format_html("{} {}", _("viewed by"), staff)
        return None

    @admin.display(description=_("details"))
    def details(self, entry: AuditEntry) -> str | None:
        return format_html("<pre>{}</pre>", json.dumps(entry.data, indent=2, ensure_ascii=False, sort_keys=True)) if entry.data else None

    # -- as a file ------------------------------------------------------------------------------------

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        query = f"?{request.GET.urlencode()}" if request.GET else ""
        links = {f"export_{name}": reverse("admin:accounts_auditentry_export", args=[name]) + query for name in FORMATS}
        return super().changelist_view(request, {"title": _("The record"), **links, **(extra_context or {})})

    def get_urls(self) -> list[URLPattern]:
        export = path("export/<slug:name>/", self.admin_site.admin_view(self.export), name="accounts_auditentry_export")
        return [export, *super().get_urls()]

    def export(self, request: HttpRequest, name: str) -> HttpResponseBase:
        """The list as it is narrowed, in pieces as the browser takes them."""
        if name not in FORMATS or request.method != "GET":
            raise Http404
        try:
            entries = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:  # narrowed by what there is not
            return redirect("admin:accounts_auditentry_changelist")
        audit.record("audit.export", acting_user=person(request), format=name, narrowed=dict(request.GET.items()))
        # Django reads a plain iterator to its end before it sends anything, where the server is asynchronous.
        content = pieces_in_turn(entries, name) if isinstance(request, ASGIRequest) else pieces(entries, name)
        headers = {"Content-Disposition": f'attachment; filename="record.{name}"'}
        return StreamingHttpResponse(content, content_type=FORMATS[name], headers=headers)


def history_of_object(entry: AuditEntry) -> str:
    return f"{reverse('admin:accounts_auditentry_changelist')}?{urlencode({'object': f'{entry.object_type}:{entry.object_id}'})}"
