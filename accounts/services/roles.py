"""Who is student, teacher or staff."""

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from accounts.models import Role, User

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
    list(User.objects.select_for_update().filter(Q(role=Role.STAFF) | Q(is_superuser=True)).order_by("pk").values_list("pk"))


def set_role(user: User, role: Role | str, *, acting_user: User | None) -> None:
    """Give `user` a role and keep `is_staff`, which opens the admin, in step with it.

    Raises RoleRefused where a person who is no superuser gives or takes the staff role, for taking one's own away, or the
    last one there is, and for a superuser, who stays staff. `acting_user` None: the groups of another system decided.
    """
    role = Role(role)
    with transaction.atomic():
        if role != Role.STAFF and user.role == Role.STAFF:
            hold_staff()
        user.refresh_from_db(from_queryset=User.objects.select_for_update())
        if why := refusal(user, role, acting_user=acting_user):
            raise RoleRefused(why)
        before = user.role
        user.role, user.is_staff = role, role == Role.STAFF
        user.save(update_fields=["role", "is_staff"])
        audit.record("user.role", acting_user=acting_user, target=user, before=before, after=role.value)


def settle(user: User, *, given: Role | None, before: str) -> Role | str:
    """Follow what the groups of another system give, now and `before` ("" for nothing); returns what to remember.

    Only a change there changes the role here: what staff decide since stays decided. Groups raise anybody, and lower
    only from what they gave; whoever is given nothing any more becomes a student. Who may not stop being staff stays so.
    """
    after_it = after(user.role, given=given, before=before)
    if after_it != user.role:
        try:
            set_role(user, after_it, acting_user=None)
        except RoleRefused:
            return before
    return given or ""


def after(role: Role | str, *, given: Role | None, before: str) -> Role | str:
    """What somebody who has `role` is after `settle`."""
    wanted = given or Role.STUDENT
    if (given or "") == before or (is_less(wanted, role) and role != before):
        return role
    return wanted


def is_less(role: Role | str, than: Role | str) -> bool:
    return Role.values.index(role) < Role.values.index(than)  # they stand in this order
