"""What staff do with people. Each function that changes something is one transaction with its lines in the record, its own
or those of the service it calls, and raises `PersonRefused` where this person may not do it to that one: staff never touch
superusers, and nobody shuts themselves out. `revoke_tokens` and `end_sessions` look who may before their transaction.
"""

from collections.abc import Collection
from dataclasses import dataclass

from allauth.account.models import EmailAddress
from django.db import transaction
from django.db.models import ProtectedError
from django.utils.translation import gettext as _

from accounts.models import Identity, Role, User

from . import audit, letters, removal, roles, sessions, tokens
from .identities import password_is_elsewhere
from .refusal import PersonRefused

LIMITS = ("max_machines", "max_cores", "max_memory_mib")


@dataclass(frozen=True, slots=True)
class Ended:
    """What somebody lost whose account was closed."""

    sessions: int
    tokens: int


# -- who may -------------------------------------------------------------------------------------


def untouchable(user: User, *, acting_user: User) -> str:
    """Why this person may change nothing of `user`, or nothing."""
    if not acting_user.runs_portal:
        return _("Only staff can do this.")
    if user.is_superuser and not acting_user.is_superuser:
        return _("%(user)s is a superuser. Only another superuser can do this.") % {"user": user}
    return ""


def _apart_from_oneself(user: User, *, acting_user: User) -> str:
    if user.pk == acting_user.pk:
        return _("This is your own account. Ask another member of staff.")
    return untouchable(user, acting_user=acting_user)


def ways_in_refusal(user: User, *, acting_user: User) -> str:
    """Why this person may not touch the address, the password and the second factors of `user`, by which one becomes them,
    or nothing. Those of staff are left to superusers, also while the account is closed; one's own to the pages that ask
    who one is."""
    if user.pk == acting_user.pk:
        return _("Your own address and password are changed on the pages of your account.")
    if user.role == Role.STAFF and not acting_user.is_superuser:
        return _("%(user)s is staff. Only a superuser can do this.") % {"user": user}
    return untouchable(user, acting_user=acting_user)


def address_refusal(user: User, *, acting_user: User) -> str:
    """Why this person may not change the e-mail address of `user`, or nothing."""
    if password_is_elsewhere(user) and user.identities.exists():  # the realm of a cluster tells no address
        return _("The address comes from the system %(user)s signs in with.") % {"user": user}
    return ways_in_refusal(user, acting_user=acting_user)


def deactivation_refusal(user: User, *, acting_user: User) -> str:
    """Why this person may not close the account of `user`, or nothing."""
    return _apart_from_oneself(user, acting_user=acting_user) or (roles.indispensable(user) if user.is_active else "")


def reactivation_refusal(user: User, *, acting_user: User) -> str:
    """Why this person may not open the account of `user` again, or nothing. That of staff is left to superusers, as are
    the ways into it: one of them may have closed it."""
    return _apart_from_oneself(user, acting_user=acting_user) or ways_in_refusal(user, acting_user=acting_user)


def removal_refusal(user: User, *, acting_user: User) -> list[str]:
    """What keeps this person from removing the account of `user`: a sentence each."""
    if why := _apart_from_oneself(user, acting_user=acting_user):
        return [why]
    if user.role == Role.STAFF or user.is_superuser:
        return [_("%(user)s is staff. Give them another role first.") % {"user": user}]
    return removal.holdings(user)


def password_mail_refusal(user: User, *, acting_user: User) -> str:
    """Why no mail by which `user` chooses a password can be sent, or nothing."""
    if not user.is_active:
        return _("This account is closed.")
    if password_is_elsewhere(user):
        return _("%(user)s signs in with an account of another system and has no password here.") % {"user": user}
    if not user.email:
        return _("%(user)s has no e-mail address.") % {"user": user}
    return untouchable(user, acting_user=acting_user)


# -- what they do --------------------------------------------------------------------------------


def make(users: Collection[User], *, acting_user: User) -> int:
    """Save new people, who choose a password by a mail. Returns how many mails go out. The caller has looked whether
    names and addresses are free. Raises PersonRefused where somebody else than a superuser makes staff."""
    if any(user.role == Role.STAFF for user in users):
        _refuse(roles.staff_refusal(acting_user))
    for user in users:
        user.set_unusable_password()
        user.is_staff, user.email_given = user.role == Role.STAFF, user.email
    with transaction.atomic():
        User.objects.bulk_create(users)
        EmailAddress.objects.bulk_create(EmailAddress(user=user, email=user.email.lower(), primary=True) for user in users if user.email)
        for user in users:
            audit.record("user.made", acting_user=acting_user, target=user, role=user.role)
        return letters.welcome(users)


def change(user: User, *, acting_user: User, **columns: str) -> None:
    """New names or another keyboard."""
    with transaction.atomic():
        user.hold()
        _refuse(untouchable(user, acting_user=acting_user))
        changed = {name: value for name, value in columns.items() if getattr(user, name) != value}
        if changed:
            _write(user, **changed)
            audit.record("user.change", acting_user=acting_user, target=user, changed=sorted(changed))


def set_limits(user: User, *, acting_user: User, **limits: int | None) -> None:
    """What they may have outside classes; `LIMITS` names them. None: as their role has it."""
    with transaction.atomic():
        user.hold()
        _refuse(untouchable(user, acting_user=acting_user))
        before = {name: getattr(user, name) for name in limits}
        if limits != before:
            _write(user, **limits)
            audit.record("user.limits", acting_user=acting_user, target=user, before=before, after=limits)


def set_address(user: User, email: str, *, acting_user: User) -> None:
    """Another e-mail address, which the person has to confirm; the one before is theirs no more, and gets a mail about
    that. The caller has looked whether it is free."""
    email = email.strip().lower()
    with transaction.atomic():
        user.hold()
        if email == user.email.lower():
            return
        _refuse(address_refusal(user, acting_user=acting_user))
        before = user.email
        EmailAddress.objects.filter(user=user, email__iexact=before).delete()
        EmailAddress.objects.filter(user=user, primary=True).update(primary=False)
        if email:
            EmailAddress.objects.update_or_create(user=user, email=email, defaults={"primary": True})
        _write(user, email=email, email_given=email)
        if before:  # whoever reads mail there may be the person, whom somebody else locks out
            letters.notify(user, "address_changed", to=before)
        audit.record("user.address", acting_user=acting_user, target=user, before=before, email=email)


def confirm_address(user: User, *, acting_user: User) -> None:
    """Take their address for theirs without a mail: staff know that it is."""
    with transaction.atomic():
        user.hold()
        _refuse(ways_in_refusal(user, acting_user=acting_user))
        if not user.email:
            raise PersonRefused(_("%(user)s has no e-mail address.") % {"user": user})
        if EmailAddress.objects.exclude(user=user).filter(email__iexact=user.email, verified=True).exists():
            raise PersonRefused(_("This address is confirmed as that of somebody else."))
        EmailAddress.objects.update_or_create(user=user, email=user.email.lower(), defaults={"primary": True, "verified": True})
        audit.record("user.address_vouched", acting_user=acting_user, target=user, email=user.email)


def set_superuser(user: User, is_superuser: bool, *, acting_user: User) -> None:
    """Superusers make superusers, and leave one."""
    with transaction.atomic():
        roles.hold_staff()
        user.hold()
        if not acting_user.is_superuser:
            raise PersonRefused(_("Only a superuser can do this."))
        if user.is_superuser == is_superuser:
            return
        _refuse("" if is_superuser else _apart_from_oneself(user, acting_user=acting_user) or roles.indispensable(user))
        _write(user, is_superuser=is_superuser)
        audit.record("user.superuser", acting_user=acting_user, target=user, after=is_superuser)
        if is_superuser and user.role != Role.STAFF:
            roles.set_role(user, Role.STAFF, acting_user=acting_user)


def deactivate(user: User, *, acting_user: User) -> Ended:
    """Close the account: sessions and tokens end at once, machines stay as they are. Closed already: nothing changes,
    but an account that another system closed stays closed then, even when its identity is there again."""
    with transaction.atomic():
        roles.hold_staff()
        user.hold()
        _refuse(deactivation_refusal(user, acting_user=acting_user))
        Identity.objects.filter(user=user).update(closed_at=None)
        if not user.is_active:
            return Ended(0, 0)
        ended = close(user, acting_user=acting_user)
        audit.record("user.deactivate", acting_user=acting_user, target=user)
    return ended


def close(user: User, *, acting_user: User | None) -> Ended:
    """Let nobody in with this account from now on. The caller has locked its row, has asked whether it may be, and
    records why it is."""
    _write(user, is_active=False)
    return Ended(sessions.end_all(user, acting_user=acting_user), tokens.revoke_all(user, acting_user=acting_user))


def reactivate(user: User, *, acting_user: User) -> None:
    """Open a closed account again. Tokens stay revoked. Whom another system closed keeps the mark of it, by which that
    system's next look knows that staff let them in all the same."""
    with transaction.atomic():
        user.hold()
        _refuse(reactivation_refusal(user, acting_user=acting_user))
        if not user.is_active:
            _write(user, is_active=True, removal_asked_at=None)
            audit.record("user.reactivate", acting_user=acting_user, target=user)


def send_password_mail(user: User, *, acting_user: User) -> None:
    """A mail with a link by which they choose a password; until then the one they have stays."""
    with transaction.atomic():
        user.hold()
        _refuse(password_mail_refusal(user, acting_user=acting_user))
        if not letters.post(user):
            raise PersonRefused(_("This portal sends no mail: EMAIL_URL is not set."))
        audit.record("user.password_mail", acting_user=acting_user, target=user)


def revoke_tokens(user: User, *, acting_user: User) -> int:
    """End all their API tokens. Returns how many there were."""
    _refuse(untouchable(user, acting_user=acting_user))
    return tokens.revoke_all(user, acting_user=acting_user)


def end_sessions(user: User, *, acting_user: User) -> int:
    """Sign them out everywhere. Returns how many sessions ended."""
    _refuse(untouchable(user, acting_user=acting_user))
    return sessions.end_all(user, acting_user=acting_user)


def keep(user: User, *, acting_user: User) -> None:
    """They asked to be removed, and are not: the wish is answered."""
    with transaction.atomic():
        user.hold()
        _refuse(untouchable(user, acting_user=acting_user))
        if user.removal_asked_at is not None:
            _write(user, removal_asked_at=None)
            letters.withdraw_from_staff(about=user)
            audit.record("user.keep", acting_user=acting_user, target=user)


def remove(user: User, *, acting_user: User) -> None:
    """Delete the account with all that is only theirs. The record keeps their name."""
    with transaction.atomic():
        user.refresh_from_db(from_queryset=User.objects.select_for_update())  # with its key, which goes
        _refuse(" ".join(removal_refusal(user, acting_user=acting_user)))
        sessions.end_all(user, acting_user=acting_user)
        audit.record("user.remove", acting_user=acting_user, target=user, target_name=user.get_username(), asked_by_person=user.removal_asked_at is not None)
        try:
            user.delete()
        except ProtectedError as error:
            names = ", ".join(str(one) for one in list(error.protected_objects)[:5])
            raise PersonRefused(_("This still belongs to %(user)s: %(names)s.") % {"user": user, "names": names}) from error


# -- what they are made of -----------------------------------------------------------------------


def _refuse(why: str) -> None:
    if why:
        raise PersonRefused(why)


def _write(user: User, **columns: object) -> None:
    for name, value in columns.items():
        setattr(user, name, value)
    user.save(update_fields=list(columns))
