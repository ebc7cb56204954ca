"""The session of staff who look at the portal as somebody else sees it."""

from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.utils import timezone

from .http import forget_click
from .models import User
from .services import viewing

KEY = "viewing_as"

# What is shown. Everything else is about the account itself, or needs no show: whoever looks has the admin for it.
_SHOWN = {"machines", "classes", "lab_sessions", "labportal"}
_NOT_SHOWN = {"machines:rdp"}  # holds how to sign in
STOP, SIGN_OUT = "accounts:stop_viewing", "account_logout"


class NothingChanges(PermissionDenied):
    """A page wrote to the database while staff looked at it as somebody else."""


def begin(request: HttpRequest, user: User) -> None:
    """Raises PersonRefused."""
    assert isinstance(request.user, User)
    viewing.begin(user, acting_user=request.user)
    forget_click(request)  # one of theirs would else be taken for one of the person's
    request.session[KEY] = {"user": user.pk, "began": timezone.now().timestamp()}


def end(request: HttpRequest, staff: User, why: str) -> int | None:
    """Returns who was looked at."""
    seen: dict[str, Any] | None = request.session.pop(KEY, None)
    if seen is None:
        return None
    viewing.end(seen["user"], acting_user=staff, began=datetime.fromtimestamp(seen["began"], tz=UTC), why=why)
    return int(seen["user"])


def viewed(request: HttpRequest, staff: User) -> User | None:
    """Whom `staff` looks at in this request; ends it where its time is over or where they may not any more."""
    seen = request.session.get(KEY)
    if seen is None:
        return None
    if not 0 <= timezone.now().timestamp() - seen["began"] < viewing.LONGEST.total_seconds():
        end(request, staff, "over")
        return None
    user = User.objects.filter(pk=seen["user"]).first()
    if user is None or viewing.refusal(user, acting_user=staff):
        end(request, staff, "refused")
        return None
    return user


def is_shown(view_name: str) -> bool:
    return view_name not in _NOT_SHOWN and (view_name in (STOP, SIGN_OUT) or (view_name.partition(":")[0] in _SHOWN and ":" in view_name))


def refuse_writes(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    """For `connection.execute_wrapper`: pages that write although they are only looked at do not."""
    if sql.lstrip(" (").partition(" ")[0].upper() in {"INSERT", "UPDATE", "DELETE", "REPLACE"}:
        raise NothingChanges
    return execute(sql, params, many, context)
