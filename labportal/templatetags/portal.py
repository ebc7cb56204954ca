"""Tags every page uses: icons, moments, breadcrumbs, and the attributes of a live fragment."""

from datetime import datetime
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from django import template
from django.contrib.staticfiles.storage import staticfiles_storage
from django.template.defaultfilters import date as date_format
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from labportal.assets import vendor_is_built
from machines.live import settled, sign
from machines.selectors.display import memory

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """An icon of the sprite, for the eye only: the word stands beside it."""
    if not vendor_is_built():
        return SafeString("")
    return format_html(
        '<svg class="icon" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>', staticfiles_storage.url("vendor/icons.svg"), name
    )


@register.simple_tag
def breadcrumbs(*parts: str) -> SafeString:
    """{% breadcrumbs label url label url … label %}: the last label is the page itself."""
    steps = [format_html('<li><a href="{}">{}</a></li>', url, label) for label, url in zip(parts[:-1:2], parts[1::2], strict=True)]
    here = format_html('<li><span aria-current="page">{}</span></li>', parts[-1])
    return format_html(
        '<nav class="crumbs" aria-label="{}"><ol>{}{}</ol></nav>', _("Breadcrumbs"), format_html_join("", "{}", ((step,) for step in steps)), here
    )


@register.simple_tag(takes_context=True)
def way_back(context: dict[str, Any]) -> str:
    """The query string of a link to signing in or up: back to this page, or from a page of that
    kind to where it would lead itself."""
    request = context.get("request")
    if request is None:  # the page for errors of the server
        return ""
    match = request.resolver_match
    if match and match.url_name and match.url_name.startswith("account_"):
        page = context.get("redirect_field_value")
    else:
        page = request.get_full_path() if request.method == "GET" and request.path != "/" else ""
    return f"?{urlencode({'next': page})}" if page else ""


@register.simple_tag(takes_context=True)
def live(context: dict[str, Any], url: str, *topics: str | list[str]) -> SafeString:
    """Attributes of an element that is fetched anew from `url` when one of `topics`, single ones
    or lists, changes.

    The element needs an id; `url` answers with the whole element. Open menus, focus and dialogs
    survive, see static/labportal/js/live.js. Without a signed-in person there is nothing to hear.
    """
    request = context["request"]
    if not request.user.is_authenticated:
        return SafeString("")
    if not hasattr(request, "live_since"):
        request.live_since = settled()
    return format_html(
        'data-live="{}" data-live-since="{}" hx-get="{}" hx-trigger="live" hx-swap="outerHTML" hx-target="this"',
        sign(request.user, chain.from_iterable([given] if isinstance(given, str) else given for given in topics)),
        request.live_since,
        url,
    )


def words_for(seconds: float) -> str:
    """A span of time in one unit: 3 s, 2 min, 5 h, 4 d. The same words are in js/app.js."""
    seconds = max(0, int(seconds))
    for limit, size, unit in ((60, 1, _("s")), (3600, 60, _("min")), (172800, 3600, _("h"))):
        if seconds < limit:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86400} {_('d')}"


def _time(moment: datetime, kind: str, text: str) -> SafeString:
    local = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" title="{}" data-{}>{}</time>',
        moment.isoformat(),
        date_format(local, "DATE_FORMAT") + date_format(local, ", H:i:s"),
        kind,
        text,
    )


@register.filter
def ago(moment: datetime | None) -> str:
    """“3 s ago”, going on by itself, with the date and time on hover."""
    if moment is None:
        return _("never")
    return _time(moment, "ago", _("%s ago") % words_for((timezone.now() - moment).total_seconds()))


@register.filter
def elapsed(moment: datetime | None) -> str:
    """“12 s” since then, going on by itself."""
    if moment is None:
        return ""
    return _time(moment, "elapsed", words_for((timezone.now() - moment).total_seconds()))


@register.filter
def left(moment: datetime) -> str:
    """“about 12 s to go” until an estimated moment, going on by itself."""
    seconds = (moment - timezone.now()).total_seconds()
    return _time(moment, "left", _("about %s to go") % words_for(seconds) if seconds >= 1 else _("taking longer than usual"))


@register.filter
def clock(moment: datetime | None) -> str:
    """The time of day, with the date on hover; in the person's zone where scripts run."""
    if moment is None:
        return ""
    return _time(moment, "clock", date_format(timezone.localtime(moment), "H:i:s"))


@register.filter
def of(values: dict[Any, Any] | None, key: Any) -> Any:
    """{{ places|of:machine.pk }}"""
    return (values or {}).get(key)


@register.filter
def duration(seconds: float | None) -> str:
    return "" if seconds is None else words_for(seconds)


@register.filter
def mebibytes(value: int | None) -> str:
    """1536 as “1.5 GiB”."""
    return "" if value is None else memory(value)
