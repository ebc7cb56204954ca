"""What the address of a page in the admin may ask for: what a database refuses is the browser's mistake, not the portal's."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import unquote

from django.contrib import admin
from django.core.exceptions import BadRequest
from django.db.models.constants import LOOKUP_SEP
from django.http import HttpRequest, HttpResponseBase

View = Callable[..., HttpResponseBase]


def without_nul(view: View) -> View:
    """PostgreSQL takes no NUL in a text, whatever it is compared with."""

    @wraps(view)
    def looked_at(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if "\0" in request.path or "\0" in unquote(request.META.get("QUERY_STRING", "")):
            raise BadRequest("There is a NUL in the address.")
        return view(request, *args, **kwargs)

    return looked_at


class OrdinaryLookups(admin.ModelAdmin):
    """Django lets the address narrow a list by any lookup of a column. No filter offers regular expressions; one that is
    broken is an error of the database, and one that is clever keeps it busy."""

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return not {"regex", "iregex"} & set(lookup.split(LOOKUP_SEP)) and super().lookup_allowed(lookup, value, request)
