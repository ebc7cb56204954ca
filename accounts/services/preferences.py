"""The language and time zone a person chose, as far as this portal knows them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import groupby
from zoneinfo import ZoneInfo, available_timezones

from django.conf import settings
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy as _

from accounts.models import User

_REGIONS = {
    "Africa": _("Africa"),
    "America": _("America"),
    "Antarctica": _("Antarctica"),
    "Asia": _("Asia"),
    "Atlantic": _("Atlantic"),
    "Australia": _("Australia"),
    "Europe": _("Europe"),
    "Indian": _("Indian Ocean"),
    "Pacific": _("Pacific"),
}


@cache
def zones() -> frozenset[str]:
    """The names of zones that people live in, which browsers know too, and UTC."""
    return frozenset(name for name in available_timezones() if name.partition("/")[0] in _REGIONS and "/" in name) | {"UTC"}


@cache
def zones_by_region() -> list[tuple[object, list[tuple[str, str]]]]:
    """For a list to choose from."""
    named = sorted(zones() - {"UTC"})
    regions = groupby(named, key=lambda name: name.partition("/")[0])
    places = [(_REGIONS[region], [(name, name.partition("/")[2].replace("_", " ").replace("/", ", ")) for name in names]) for region, names in regions]
    return [(_("Everywhere"), [("UTC", "UTC")]), *places]


@contextmanager
def of(user: User) -> Iterator[None]:
    """Within, texts and times are as `user` chose; what they did not choose stays as it was."""
    with ExitStack() as chosen:
        if user.language in dict(settings.LANGUAGES):
            chosen.enter_context(translation.override(user.language))
        if user.time_zone in zones():
            chosen.enter_context(timezone.override(ZoneInfo(user.time_zone)))
        yield
