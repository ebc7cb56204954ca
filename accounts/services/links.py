"""Accounts of other systems that people connect with their own, and disconnect again."""

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import policies
from accounts.models import Identity, User

from . import audit, identities, letters, roles
from .refusal import Refusal


class LinkRefused(Refusal):
    """An account of another system is not connected, or not let go."""


def link(user: User, source: str, uid: str, *, name: str, system: str) -> None:
    """From now on this identity leads to `user`, who gets a mail about that in which its system is called `system`. Call
    it only for the person themselves, who showed that both are theirs.

    Raises LinkRefused where it leads to somebody already.
    """
    with transaction.atomic():
        identity, made = Identity.objects.get_or_create(source=source, uid=uid, defaults={"user": user, "name": name[:255]})
        if made:
            letters.notify(user, "account_connected", {"system": system, "name": identity.name})
            audit.record("identity.linked", acting_user=user, target=user, source=source, uid=uid, name=identity.name)
    if identity.user_id != user.pk:
        raise LinkRefused(_("That account signs somebody else in here already. If that is you too, ask the people who run the portal."))


def unlink(user: User, identity_id: int, *, prefix: str) -> None:
    """Take an identity of `user`, whose source begins with `prefix`, away. The role that it alone gave goes with it.

    Raises LinkRefused where there is none, where it is the only way to sign in, and where staff gave the person less than
    its groups do: they would take that role back by connecting it, or by making another account with it.
    """
    with transaction.atomic():
        roles.hold_staff()  # taking the identity away may take the role
        user = User.objects.held().get(pk=user.pk)  # two at once would each leave the other
        identity = user.identities.filter(pk=identity_id, source__startswith=prefix).first()
        if identity is None:
            raise LinkRefused(_("That account is not connected."))
        if not user.has_usable_password() and not user.identities.exclude(pk=identity.pk).exists() and not policies.realm_names(user):
            raise LinkRefused(_("It is your only way to sign in, so it stays connected."))
        if identity.role_given and roles.is_less(user.role, identity.role_given):
            raise LinkRefused(_("Your role was changed since that account gave you one, so it stays connected. Ask the people who run the portal."))
        roles.settle(identity, None)
        identity.delete()
        audit.record("identity.unlinked", acting_user=user, target=user, source=identity.source, uid=identity.uid, name=identity.name)
    identities.tell_groups(user)
