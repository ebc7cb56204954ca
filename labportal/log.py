"""What the log says less about than Django would."""

import logging
import re
from uuid import UUID

_LONG_PART = re.compile(r"[^/]{20,}")  # of a path


def loggable_path(uri: str) -> str:
    """A path without its query, and without the tokens of invites and password resets: those
    are its long parts that are no UUID and no file."""
    path = uri.partition("?")[0]
    return path if path.startswith("/static/") else _LONG_PART.sub(lambda part: part[0] if _is_uuid(part[0]) else "…", path)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


class WithoutKeys(logging.Filter):
    """Paths as `loggable_path` has them. For what Django says of requests that failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(loggable_path(arg) if isinstance(arg, str) and arg.startswith("/") else arg for arg in record.args)
        return True


class OneLine(logging.Filter):
    """A warning of one line. For what anybody can bring about from outside, such as a host name that is not ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.exc_info = record.exc_text = None
        return True
