"""The record as a file, in pieces: a million entries take no more memory than a thousand."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Iterator

from channels.db import database_sync_to_async
from django.db.models import QuerySet

from .models import AuditEntry

FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}
AT_ONCE = 1000

_COLUMNS = ("at", "actor_id", "actor_name", "action", "object_type", "object_id", "object_name", "outcome", "address", "data")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for one


def pieces(entries: QuerySet[AuditEntry], name: str) -> Iterator[str]:
    """Newest first. Each piece is one query, by the last number of the piece before."""
    yield _head(name)
    last: int | None = None
    while True:
        piece, last = _piece(entries, last, name)
        if last is None:
            return
        yield piece


async def pieces_in_turn(entries: QuerySet[AuditEntry], name: str) -> AsyncIterator[str]:
    """The same for an asynchronous server, which others go on using meanwhile."""
    yield _head(name)
    last: int | None = None
    while True:
        piece, last = await database_sync_to_async(_piece)(entries, last, name)
        if last is None:
            return
        yield piece


def _head(name: str) -> str:
    return _csv([_COLUMNS]) if name == "csv" else ""


def _piece(entries: QuerySet[AuditEntry], last: int | None, name: str) -> tuple[str, int | None]:
    if last is not None:
        entries = entries.filter(pk__lt=last)
    rows = list(entries.order_by("-id").values_list("id", *_COLUMNS)[:AT_ONCE])
    if not rows:
        return "", None
    if name == "csv":
        text = _csv([[_cell(_plain(value)) for value in row[1:]] for row in rows])
    else:
        text = "".join(json.dumps(dict(zip(_COLUMNS, row[1:], strict=True)), default=str, ensure_ascii=False) + "\n" for row in rows)
    return text, rows[-1][0]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True) if value else ""
    return "" if value is None else str(value)


def _cell(text: str) -> str:
    """Names are anybody's: none of them becomes a formula in the program of whoever opens the file."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _csv(rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
