"""The product's settings, watched: every answer says how many queries it took, and every wish for a provider is written down and refused.

Needs LABPORTAL_PROVIDER_WISHES, the file for the latter.
"""

import os
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.db import connections
from django.http import HttpRequest, HttpResponse

from labportal.settings import *
from machines.providers import registry

MIDDLEWARE = ["bench.watched.count_queries", *MIDDLEWARE]  # noqa: F405
WISHES = Path(os.environ["LABPORTAL_PROVIDER_WISHES"])


def refuse(kind: str) -> type:
    with WISHES.open("a") as wishes:
        wishes.write(f"{kind}: {''.join(traceback.format_stack(limit=4)[:-1])}\n")
    raise AssertionError("a page asked for a provider")


registry.provider_class = refuse  # settings are read before any module of an app


def count_queries(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        queries = 0

        def count(execute: Callable[..., Any], *arguments: Any) -> Any:
            nonlocal queries
            queries += 1
            return execute(*arguments)

        with ExitStack() as wrapped:
            for connection in connections.all():
                wrapped.enter_context(connection.execute_wrapper(count))
            response = get_response(request)
        response["X-Queries"] = str(queries)
        return response

    return middleware
