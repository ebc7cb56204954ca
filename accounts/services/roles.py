"""Who is student, teacher or staff."""

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from accounts.models import Identity, Role, User

from . import audit
from .refusal import Refusal


class RoleRefused(Refusal):
    """Somebody is not given a role."""


def refusal(user: User, role: Role, *, acting_user: User | None) -> str:
    """Why `user` cannot be given `role` by this person, or nothing."""
    if role != Role.STAFF and user.is_superuser:
        return _("%(user)s is a superuser and stays staff.") % {"user": user}
    if role == user.role or Role.STAFF not in (role, user.role):
        return ""
    if acting_user is not None and acting_user.pk == user.pk:
        return _("You cannot take the staff role from yourself. Ask a superuser.")
    if acting_user is not None and (why := staff_refusal(acting_user)):
        return why
    return "" if role == Role.STAFF else indispensable(user)


def staff_refusal(acting_user: User) -> str:
    """Why this person may neither make staff nor take the role from them, or nothing. Whoever could do the latter would
    get at the address of staff, which is out of their reach (`people.ways_in_refusal`), in between."""
    return "" if acting_user.is_superuser else _("Only a superuser makes somebody staff, or takes that role away.")


def indispensable(user: User) -> str:
    """Why the portal cannot do without this person, or nothing: somebody runs it, and if there are superusers, one is left."""
    others = User.objects.filter(is_active=True).exclude(pk=user.pk)
    if user.is_superuser and not others.filter(is_superuser=True).exists():
        return _("%(user)s is the last superuser.") % {"user": user}
    if user.runs_portal and not others.filter(Q(role=Role.STAFF) | Q(is_superuser=True)).exists():
        return _("%(user)s is the last who runs the portal.") % {"user": user}
    return ""


def hold_staff() -> None:
    """Lock all who run the portal: two who close each other's account at the same moment would leave nobody. Inside a
    transaction only, before any other person is locked."""
    list(User.objects.held().filter(Q(role=Role.STAFF) | Q(is_superuser=True)).order_by("pk").values_list("pk"))


def set_role(user: User, role: Role | str, *, acting_user: User | None) -> None:
    """Give `user` a role and keep `is_staff`, which opens the admin, in step with it.

    Raises RoleRefused where a person who is no superuser gives or takes the staff role, for taking one's own away, or the
    last one there is, and for a superuser, who stays staff. `acting_user` None: another system decided, and what was
    there before it is remembered as `own_role`.
    """
    role = Role(role)
    with transaction.atomic():
        if role != Role.STAFF and user.role == Role.STAFF:
            hold_staff()
        user.hold()
        if why := refusal(user, role, acting_user=acting_user):
            raise RoleRefused(why)
        before = user.role
        user.own_role = "" if acting_user is not None else user.own_role or before
        user.role, user.is_staff = role, role == Role.STAFF
        user.save(update_fields=["role", "is_staff", "own_role"])
        audit.record("user.role", acting_user=acting_user, target=user, before=before, after=role.value)


def settle(identity: Identity, given: Role | None) -> None:
    """Follow what the groups of another system give now (None for nothing), and note it on the identity.

    Only a change there changes the role here: what staff decide since stays decided. Groups raise anybody, and lower
    only from what they gave, to the highest of what is left: what the groups of the person's other identities give, and
    `own_role`. Who may not stop being staff stays so. Inside no transaction that holds the person but not all staff.
    """
    if (given or "") == identity.role_given:
        return
    user = identity.user
    with transaction.atomic():
        if identity.role_given == Role.STAFF:
            hold_staff()  # the role may go; before the person is locked
        # Two systems that stop giving a role at the same moment would each leave it to the other.
        user.hold()
        role = after(identity, given)
        if role != user.role:
            try:
                set_role(user, role, acting_user=None)
            except RoleRefused:
                return
        identity.role_given = given or ""
        identity.save(update_fields=["role_given"])


def after(identity: Identity, given: Role | None) -> Role | str:
    """What the person of `identity` is after `settle`."""
    user, before = identity.user, identity.role_given
    if given and given != before and is_less(user.role, given):
        return given
    if (given or "") == before or user.role != before or not user.own_role:
        return user.role
    others = user.identities.filter(closed_at=None).exclude(pk=identity.pk).exclude(role_given="").values_list("role_given", flat=True)
    left = max([given or Role.STUDENT, user.own_role, *others], key=Role.values.index)
    return left if is_less(left, user.role) else user.role


def is_less(role: Role | str, than: Role | str) -> bool:
    return Role.values.index(role) < Role.values.index(than)  # they stand in this order
