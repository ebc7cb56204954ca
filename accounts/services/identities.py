"""From an account outside the portal to a person: of the university directory, of single sign-on.

An identity leads to the person it was made for and to nobody else. Names and addresses it tells of are hostile until
they are settled here: a name that somebody has is not given again, and neither is an address.
"""

import logging
import re
from collections.abc import Collection, Iterator
from typing import Any

from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from accounts.directory.config import DirectoryConfig
from accounts.directory.names import in_one_case
from accounts.directory.types import Entry
from accounts.models import DIRECTORY, Identity, IdentityName, Role, User
from accounts.signals import groups_read

from . import audit, roles

log = logging.getLogger(__name__)

_NAMES_TRIED = 50
_LONGEST, _LONGEST_ADDRESS = 150, 254  # of a user name, a first and a last name; of an e-mail address
_LONGEST_UID = 255  # and of a name in the other system
_NAMES_KEPT = 10  # of those that one identity can be signed in as
# Control characters, and letters that turn the direction of others round: they make a name read like another one.
_HIDDEN = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def settle(
    source: str,
    uid: str,
    *,
    name: str,
    dn: str = "",
    email: str = "",
    email_verified: bool = True,
    first_name: str = "",
    last_name: str = "",
    logins: Collection[str] = (),
    groups: Collection[str] | None = (),
    role: Role | None,
    at_sign_in: bool = True,
) -> User | None:
    """The person with this identity, made at the first time, and brought up to date with what its system says now.
    None: they are deactivated, unless that was done because the identity was gone, which it no longer is.

    A new person gets a user name that is free; it stays when the name of the identity changes. `role` is what the
    groups give, None if they give none, see `roles.settle`. An address that somebody else has is not taken. `groups`
    that are None are not known, and stay as they were, but of who comes back. What changes without a sign-in is none of
    the person's doing, and the record says so.
    """
    if not 0 < len(uid) <= _LONGEST_UID or not uid.isprintable():
        log.error("%s: %r is no stable id of anybody", source, uid[:_LONGEST_UID])
        return None
    name = name.translate(_HIDDEN).strip()[:_LONGEST_UID]
    identity = _identity(source, uid, name)
    if identity is None:
        return None
    with transaction.atomic():
        identity = hold(identity.pk)
        user = identity.user
        acting_user = user if at_sign_in else None
        if groups is None and identity.closed_at is not None:
            groups = ()  # they have been away, and are in none of their old ones by this
        _welcome_back(identity)
        if not user.is_active:
            return None
        if name != identity.name:
            audit.record("identity.renamed", acting_user=acting_user, target=user, source=source, before=identity.name, after=name)
        _settle_address(identity, email, verified=email_verified, acting_user=acting_user)
        _settle_names(identity, first_name, last_name, acting_user=acting_user)
        identity.name, identity.dn = name, dn.translate(_HIDDEN)
        if groups is not None:
            identity.groups = sorted(group for group in groups if group.isprintable())
        identity.seen_at = timezone.now()
        identity.save()
        _settle_logins(identity, logins)
    roles.settle(identity, role)  # in a transaction of its own: it may lock all staff, and that before the person
    tell_groups(user)
    return user


def settle_entry(entry: Entry, config: DirectoryConfig, *, at_sign_in: bool = True) -> User | None:
    """The person of an entry of the university directory, see `settle`. A directory that lets the portal read groups no
    more answers as if there were none: at a sign-in that takes a role, as it must where it is true, and no places in
    classes. The groups stay for the nightly sync, which sees whether all others are in none either."""
    given = config.role_of(entry.groups)
    return settle(
        DIRECTORY,
        entry.uid,
        name=entry.name,
        dn=entry.dn,
        email=entry.email,
        first_name=entry.first_name,
        last_name=entry.last_name,
        logins=entry.logins,
        groups=None if at_sign_in and not entry.groups else entry.groups,
        role=Role(given) if given else None,
        at_sign_in=at_sign_in,
    )


def hold(pk: int) -> Identity:
    """Lock an identity and its person, the person first, as whoever deactivates people does. Inside a transaction only."""
    user = User.objects.held().get(identities=pk)
    identity = Identity.objects.select_for_update(of=("self",)).get(pk=pk)
    identity.user = user
    return identity


def _welcome_back(identity: Identity) -> None:
    """The identity is there. Opens the account of its person if it was closed because the identity was gone, and
    leaves closed what staff closed. Saves the person, not the identity."""
    user = identity.user
    if identity.closed_at is not None and not user.is_active:
        user.is_active = True
        user.save(update_fields=["is_active"])
        audit.record("user.came_back", acting_user=None, target=user, source=identity.source)
    elif identity.missing_since is not None:
        audit.record("identity.found", acting_user=None, target=user, source=identity.source, name=identity.name)
    identity.missing_since = identity.closed_at = None


def tell_groups(user: User) -> None:
    """Send what groups this person is in, by all their identities together: one that knows none takes nobody out of
    those another knows. Outside a transaction: listeners lock rows of their own."""
    known = user.identities.filter(closed_at=None).values_list("groups", flat=True)
    groups_read.send_robust(sender=Identity, user=user, groups=frozenset(group for groups in known for group in groups))


def free_username(source: str, name: str) -> str:
    """What somebody of this name would be called who came now; "" where no name is free."""
    names = _usernames(source, name)
    return next((one for one in names if not User.objects.filter(username__iexact=one).exists()), "")


def is_taken(email: str) -> bool:
    """Whether nobody new would get this address."""
    return _is_of_another(None, _address(email), verified=True)


def password_is_elsewhere(user: User) -> bool:
    """Whether this person signs in with an account of a system outside the portal alone. Names with an @ are those of
    clusters' realms."""
    return not user.has_usable_password() and ("@" in user.get_username() or user.identities.exists())


# -- the person --------------------------------------------------------------------------------


def _identity(source: str, uid: str, name: str) -> Identity | None:
    """The row of this identity. Of sign-ins at the same moment one makes it, and the others find it."""
    same = Identity.objects.filter(source=source, uid=uid)
    for username in _usernames(source, name):
        if (known := same.first()) is not None:
            return known
        if User.objects.filter(username__iexact=username).exists():
            continue
        try:
            with transaction.atomic():
                user = User.objects.create_user(username)  # without a password: none of the portal's own opens it
                identity = Identity.objects.create(user=user, source=source, uid=uid, name=name)
                audit.record("user.from_outside", acting_user=user, target=user, source=source, uid=uid, name=name)
                return identity
        except IntegrityError:
            continue  # somebody was quicker, with this identity or with this name
    if (known := same.first()) is None:
        log.error("%s: no user name is free for %r", source, name)
    return known


def _usernames(source: str, name: str) -> Iterator[str]:
    """The name itself, then what tells it from others of that name. An @ is the portal's own mark for the latter."""
    stem = re.sub(r"[^\w.+-]", "", User.normalize_username(name).partition("@")[0].lower())[: _LONGEST - 80] or "person"
    system = source.rpartition(":")[2]
    yield stem
    yield f"{stem}@{system}"
    for number in range(2, _NAMES_TRIED):
        yield f"{stem}-{number}@{system}"


def _settle_names(identity: Identity, first_name: str, last_name: str, *, acting_user: User | None) -> None:
    """As the other system has them; what it does not know stays."""
    user = identity.user
    told = {"first_name": _readable(first_name), "last_name": _readable(last_name)}
    changed = {field: value for field, value in told.items() if value and value != getattr(user, field)}
    for field, value in changed.items():
        setattr(user, field, value)
    if changed:
        user.save(update_fields=list(changed))
        audit.record("identity.names", acting_user=acting_user, target=user, source=identity.source, changed=sorted(changed))


def _settle_logins(identity: Identity, told: Collection[str]) -> None:
    possible = dict.fromkeys(name for login in told if len(name := in_one_case(login)) <= _LONGEST_UID)
    names, known = list(possible)[:_NAMES_KEPT], set(identity.names.values_list("name", flat=True))
    if over := known.difference(names):
        identity.names.filter(name__in=over).delete()
    IdentityName.objects.bulk_create([IdentityName(identity=identity, name=name) for name in names if name not in known])


def _readable(name: str) -> str:
    return name.translate(_HIDDEN).strip()[:_LONGEST]


# -- the address -------------------------------------------------------------------------------


def _settle_address(identity: Identity, told: str, *, verified: bool, acting_user: User | None) -> None:
    """Make the address the person's own, in place of the one told before. It is verified if the other system says
    so: a mere claim gets no more than an unconfirmed address."""
    user, email, before = identity.user, _address(told), identity.email
    if not email:
        return
    identity.email = email
    if _is_of_another(user.pk, email, verified=verified):
        if email != before:
            audit.record("user.address", acting_user=acting_user, target=user, outcome="taken", source=identity.source, email=email)
        return
    theirs = EmailAddress.objects.filter(user=user)
    if before and before != email:
        theirs.filter(email__iexact=before).delete()
    row = theirs.filter(email__iexact=email).first() or EmailAddress(user=user, email=email)
    changed: dict[str, Any] = {}
    if verified and not row.verified:
        changed["verified"] = True
    if not row.primary and not theirs.filter(primary=True).exists():
        changed["primary"] = True
    if row.pk is None or changed:
        for field, value in changed.items():
            setattr(row, field, value)
        row.save()
        audit.record("user.address", acting_user=acting_user, target=user, source=identity.source, email=email, verified=row.verified)
    if row.primary and user.email != email:
        user.email = email
        user.save(update_fields=["email"])


def _address(told: str) -> str:
    email = told.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        return ""
    return email if len(email) <= _LONGEST_ADDRESS else ""


def _is_of_another(person: int | None, email: str, *, verified: bool) -> bool:
    """Somebody else has shown that the address is theirs, or staff gave it to them. What somebody merely typed when
    they signed up stands in the way of nobody but another claim."""
    others = EmailAddress.objects.exclude(user_id=person or 0).filter(email__iexact=email)
    merely_claimed = Q(pk__in=others.values("user")) & ~Q(email_given__iexact=email)
    given_by_staff = User.objects.exclude(pk=person or 0).filter(email__iexact=email).exclude(merely_claimed)
    return (others.filter(verified=True) if verified else others).exists() or given_by_staff.exists()
