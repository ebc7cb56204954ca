"""Groups of the directory and of single sign-on, as people name them."""

import unicodedata

from django.conf import settings
from django.utils.translation import gettext as _

from accounts.directory.names import depth, first_value, normalised
from accounts.models import Identity

from .refusal import Refusal

_LONGEST = 500
_NAMED = 5  # groups in a sentence


class GroupUnclear(Refusal):
    """What was typed names no group, or several."""


def offered() -> bool:
    """Whether there is a system that tells of groups."""
    return settings.DIRECTORY is not None or bool(settings.SINGLE_SIGN_ON.providers)


def resolve(typed: str) -> str:
    """The group as identities hold it. A whole distinguished name is taken as it is, somebody in it or not. Any other
    name must be that of one group that somebody of the portal is in, letter by letter but for their case: a class
    whose teacher had another group in mind would be full of strangers. Raises GroupUnclear."""
    if len(typed) > _LONGEST or not typed.isprintable():
        raise GroupUnclear(_("This is no name of a group."))
    if depth(typed) > 1:
        return normalised(typed)
    wanted = folded(shown(typed))
    found = sorted(group for group in _known() if wanted in (folded(group), folded(shown(group))))
    if len(found) > 1:
        names = "; ".join(found[:_NAMED])
        raise GroupUnclear(_("There are several groups of this name. Give the whole name of one: %(names)s") % {"names": names})
    if not found:
        raise GroupUnclear(_("Nobody of the portal is in a group of this name. Give its whole name, as cn=networks,ou=groups,dc=example,dc=org."))
    return found[0]


def members(group: str) -> list[int]:
    """The ids of the people whose identities are in this group, as last read."""
    wanted = folded(group)
    rows = Identity.objects.filter(closed_at=None, user__is_active=True).order_by("user").values_list("user", "groups")
    return list(dict.fromkeys(user for user, held in rows.iterator() if wanted in map(folded, held)))


def shown(group: str) -> str:
    """The name people know it by: networks, for cn=networks,ou=groups,dc=uni."""
    return first_value(group) or group


def folded(group: str) -> str:
    """In one spelling for all that mean the same group, as names in a directory have it: ß and ss stay different."""
    return " ".join(unicodedata.normalize("NFKC", group).lower().split())


def _known() -> set[str]:
    rows = Identity.objects.filter(closed_at=None).values_list("groups", flat=True)
    return {group for held in rows.iterator() for group in held}
