"""Links and codes that let people join a class."""

import secrets
from datetime import timedelta

from django.contrib.auth.models import AnonymousUser
from django.core.signing import BadSignature, Signer
from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.services import audit
from classes.models import Invite, LabClass
from machines.services.feed import publish
from machines.services.refusal import Refused

from . import pool

# No letter or digit that is taken for another on a projector. 31^8: guesses are hopeless where
# they are counted (classes.views_invites.code).
_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
_LENGTH = 8
_signer = Signer(salt="classes.invite", sep=".")


def create_invite(lab_class: LabClass, *, acting_user: User, lasts: timedelta | None = None, max_uses: int | None = None) -> Invite:
    """A new open invite: for `lasts` (None: until it is revoked) and `max_uses` people (None: any)."""
    if max_uses is not None and max_uses < 1:
        raise Refused(_("An invite is for at least one person."), code="count")
    with transaction.atomic():
        pool.lock(lab_class)
        if lab_class.archived_at is not None:
            raise Refused(_("%(class)s is archived. Restore it before you invite people.") % {"class": lab_class}, code="archived")
        invite = _insert(
            Invite(lab_class=lab_class, created_by=acting_user, expires_at=timezone.now() + lasts if lasts else None, max_uses=max_uses),
        )
        audit.record("invite.create", acting_user=acting_user, target=lab_class, invite=invite.pk, max_uses=max_uses, expires=str(invite.expires_at or ""))
        publish(pool.topic(lab_class))
    return invite


def revoke_invite(invite: Invite, *, acting_user: User) -> None:
    """The link ends at once; whoever joined by it stays."""
    with transaction.atomic():
        revoked = Invite.objects.filter(pk=invite.pk, revoked_at=None).update(revoked_at=timezone.now())
        if revoked:
            audit.record("invite.revoke", acting_user=acting_user, target=invite.lab_class, invite=invite.pk)
            publish(pool.topic(invite.lab_class))
    invite.refresh_from_db(fields=["revoked_at"])


def link_token(invite: Invite) -> str:
    """What stands in the link: the code with a signature, so that a mangled link is known as such."""
    return _signer.sign(invite.token)


def by_link(token: str) -> Invite | None:
    """The invite of a link, open or not; None where the link is mangled or was never ours."""
    try:
        code = _signer.unsign(token)
    except BadSignature:
        return None
    return _with_class().filter(token=code).first()


def by_code(typed: str) -> Invite | None:
    """The invite of a code typed by hand: case, spaces and dashes do not matter."""
    code = "".join(typed.split()).replace("-", "").upper()
    return _with_class().filter(token=code).first() if len(code) == _LENGTH else None


def spoken(invite: Invite) -> str:
    """The code as people read and type it: ABCD-EFGH."""
    return f"{invite.token[:4]}-{invite.token[4:]}"


def why_closed(invite: Invite) -> Refused | None:
    """Why nobody can join by it now, or None."""
    if invite.lab_class.archived_at is not None:
        return Refused(_("This class is over. Nobody can join it any more."), code="archived")
    if invite.revoked_at is not None:
        return Refused(_("This invite was withdrawn."), code="revoked")
    if invite.expires_at is not None and invite.expires_at <= timezone.now():
        return Refused(_("This invite has expired."), code="expired")
    if invite.max_uses is not None and invite.uses >= invite.max_uses:
        return Refused(_("This invite is used up: as many people joined by it as it was made for."), code="used_up")
    return None


def use(invite: Invite) -> None:
    """Count one person in, never more than `max_uses` whoever comes at the same time. Call it
    in the transaction of the joining. Raises Refused."""
    still_open = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=timezone.now())) & (Q(max_uses=None) | Q(uses__lt=F("max_uses")))
    counted = Invite.objects.filter(still_open, pk=invite.pk).update(uses=F("uses") + 1)
    invite.refresh_from_db()
    if not counted:
        raise why_closed(invite) or Refused(_("This invite is closed."), code="closed")


def note_refused(invite: Invite | None, *, acting_user: User | AnonymousUser, code: str) -> None:
    """Record that somebody wanted to join and could not. What they typed, where it leads to no invite, is not kept."""
    if invite is None:
        audit.record("class.join", acting_user=acting_user, outcome=code)
    else:
        audit.record("class.join", acting_user=acting_user, target=invite.lab_class, outcome=code, invite=invite.pk)


def _with_class() -> QuerySet[Invite]:
    return Invite.objects.select_related("lab_class__teacher")


def _insert(invite: Invite) -> Invite:
    while True:
        invite.token = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
        try:
            with transaction.atomic():
                invite.save(force_insert=True)
        except IntegrityError:  # this code exists; the next will not
            continue
        return invite
