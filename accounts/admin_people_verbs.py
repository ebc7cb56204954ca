"""What staff do with one person: a button on the person's page, a page that says what it means, and the service."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from . import mail
from .models import Role, User
from .services import people, second_factors
from .ways_in import WaysIn

Words = Callable[[User], list[str]]


@dataclass(frozen=True, slots=True)
class Verb:
    """`offered` looks at the person, `refusals` at who asks; `do` returns what is said afterwards."""

    word: Promise
    offered: Callable[[User, WaysIn], bool]
    refusals: Callable[[User, User], list[str]]
    means: Words
    do: Callable[[User, User], str]
    dangerous: bool = False
    leaves_nobody: bool = False  # the person's page is gone afterwards


def _untouchable(user: User, acting_user: User) -> list[str]:
    return _one(people.untouchable(user, acting_user=acting_user))


def _one(why: str) -> list[str]:
    return [why] if why else []


def _deactivate(user: User, acting_user: User) -> str:
    ended = people.deactivate(user, acting_user=acting_user)
    sessions = ngettext("%(count)d session", "%(count)d sessions", ended.sessions) % {"count": ended.sessions}
    tokens = ngettext("%(count)d API token", "%(count)d API tokens", ended.tokens) % {"count": ended.tokens}
    return _("The account of %(user)s is closed. Ended: %(sessions)s, %(tokens)s.") % {"user": user, "sessions": sessions, "tokens": tokens}


def _reactivate(user: User, acting_user: User) -> str:
    people.reactivate(user, acting_user=acting_user)
    return _("The account of %(user)s is open again.") % {"user": user}


def _password_mail(user: User, acting_user: User) -> str:
    people.send_password_mail(user, acting_user=acting_user)
    return _("A mail to %(email)s is on its way.") % {"email": user.email}


def _confirm(user: User, acting_user: User) -> str:
    people.confirm_address(user, acting_user=acting_user)
    return _("%(email)s counts as confirmed.") % {"email": user.email}


def _reset(user: User, acting_user: User) -> str:
    second_factors.reset(user, acting_user=acting_user)
    return _("%(user)s has no second factor any more, and is signed out.") % {"user": user}


def _revoke(user: User, acting_user: User) -> str:
    count = people.revoke_tokens(user, acting_user=acting_user)
    return ngettext("%(count)d API token is revoked.", "%(count)d API tokens are revoked.", count) % {"count": count}


def _sign_out(user: User, acting_user: User) -> str:
    count = people.end_sessions(user, acting_user=acting_user)
    return ngettext("%(user)s is signed out of %(count)d session.", "%(user)s is signed out of %(count)d sessions.", count) % {"user": user, "count": count}


def _keep(user: User, acting_user: User) -> str:
    people.keep(user, acting_user=acting_user)
    return _("The account of %(user)s stays.") % {"user": user}


def _remove(user: User, acting_user: User) -> str:
    name = str(user)
    people.remove(user, acting_user=acting_user)
    return _("The account of %(user)s is removed.") % {"user": name}


VERBS: dict[str, Verb] = {
    "password-mail": Verb(
        gettext_lazy("Send a mail to choose a password"),
        lambda user, _ways_in: user.is_active,
        lambda user, acting_user: _one(people.password_mail_refusal(user, acting_user=acting_user)),
        lambda user: [
            _("%(email)s gets a link by which %(user)s chooses a password. Until then the one they have stays.") % {"email": user.email, "user": user}
        ],
        _password_mail,
    ),
    "confirm-address": Verb(
        gettext_lazy("Mark the address as confirmed"),
        lambda user, ways_in: bool(user.email) and not ways_in.is_confirmed(user.email),
        lambda user, acting_user: _one(people.ways_in_refusal(user, acting_user=acting_user)),
        lambda user: [
            _("You know that %(email)s is the address of %(user)s. Whoever reads mail there can sign in as them.") % {"email": user.email, "user": user}
        ],
        _confirm,
    ),
    "sign-out": Verb(
        gettext_lazy("Sign out everywhere"),
        lambda _user, ways_in: bool(ways_in.sessions),
        _untouchable,
        lambda user: [_("Every browser in which %(user)s is signed in is signed out, and consoles that are open there end.") % {"user": user}],
        _sign_out,
    ),
    "revoke-tokens": Verb(
        gettext_lazy("Revoke API tokens"),
        lambda _user, ways_in: bool(ways_in.tokens),
        _untouchable,
        lambda user: [_("Programs that use a token of %(user)s stop working at once. Tokens cannot be brought back.") % {"user": user}],
        _revoke,
        dangerous=True,
    ),
    "reset-second-factor": Verb(
        gettext_lazy("Reset the second factor"),
        lambda _user, ways_in: bool(ways_in.factors),
        lambda user, acting_user: _one(second_factors.refusal(user, acting_user=acting_user)),
        lambda user: [
            _("All second factors and recovery codes of %(user)s are removed, and they are signed out. Be sure that it is they who ask.") % {"user": user},
            _("Their API tokens are revoked, and cannot be brought back."),
            *([_("They get a mail about it.")] if mail.is_sent() and user.email else []),
            _("If their role must have a second factor, they set up another when they sign in."),
        ],
        _reset,
        dangerous=True,
    ),
    "keep": Verb(
        gettext_lazy("Keep the account"),
        lambda user, _ways_in: user.removal_asked_at is not None,
        _untouchable,
        lambda user: [_("%(user)s asked to be removed. The wish is taken as answered; tell them why the account stays.") % {"user": user}],
        _keep,
    ),
    "reactivate": Verb(
        gettext_lazy("Open the account again"),
        lambda user, _ways_in: not user.is_active,
        lambda user, acting_user: _one(people.reactivation_refusal(user, acting_user=acting_user)),
        lambda user: [_("%(user)s can sign in again. API tokens that were revoked stay so.") % {"user": user}],
        _reactivate,
    ),
    "deactivate": Verb(
        gettext_lazy("Close the account"),
        lambda user, _ways_in: user.is_active,
        lambda user, acting_user: _one(people.deactivation_refusal(user, acting_user=acting_user)),
        lambda user: [
            _("%(user)s is signed out and cannot sign in any more. Consoles that are open end, and API tokens are revoked.") % {"user": user},
            _("Machines stay as they are, and so do classes."),
            _("Only a superuser can open it again.") if user.role == Role.STAFF else _("The account can be opened again."),
        ],
        _deactivate,
        dangerous=True,
    ),
    "remove": Verb(
        gettext_lazy("Remove the account"),
        lambda _user, _ways_in: True,
        lambda user, acting_user: people.removal_refusal(user, acting_user=acting_user),
        lambda user: [
            _("The account of %(user)s is deleted, with its addresses, keys, tokens and requests. This cannot be undone.") % {"user": user},
            _("The record keeps what they did under their user name, %(username)s.") % {"username": user.username},
        ],
        _remove,
        dangerous=True,
        leaves_nobody=True,
    ),
}


def offered(user: User, ways_in: WaysIn, *, acting_user: User) -> list[dict[str, Any]]:
    """The buttons. Removing is offered also where something has to be decided first: its page says what."""
    if people.untouchable(user, acting_user=acting_user) or user.pk == acting_user.pk:
        return []
    shown = {name: verb for name, verb in VERBS.items() if verb.offered(user, ways_in) and (name == "remove" or not verb.refusals(user, acting_user))}
    return [{"name": name, "word": verb.word, "dangerous": verb.dangerous} for name, verb in shown.items()]
