"""What is asked of people before they may do anything, and what they could do it by."""

from typing import Any

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.db.models import Exists, OuterRef, Q, QuerySet

from .models import Identity, Role, RolePolicy, User

FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)  # recovery codes only stand in for one of these

# Apps above add accounts that they let people in by: rows with `user` and `name`, as identities have them.
REALM_ACCOUNTS: list[QuerySet[Any]] = []


def realm_names(user: User) -> list[str]:
    """What this person signs in as with a password that an app above has checked; none where there is no such way in."""
    return [name for accounts in REALM_ACCOUNTS for name in accounts.filter(user=user).values_list("name", flat=True)]


def signs_in_by_sso_alone(user: User) -> bool:
    return User.objects.filter(_by_sso_alone(), pk=user.pk).exists()


def owing_second_factor() -> QuerySet[User]:
    """The people whose role must have a second factor, and who have set none up. Until they do, they can do nothing else."""
    return _people_of_roles_with_one().exclude(Exists(Authenticator.objects.filter(user=OuterRef("pk"), type__in=FACTORS)))


def needs_second_factor(user: User) -> bool:
    """Whether this person has to set one up first. Costs one small query, so that what staff decide counts at once."""
    return owing_second_factor().filter(pk=user.pk).exists()


def must_have_second_factor(user: User) -> bool:
    """Whether this person may not be without one."""
    return _people_of_roles_with_one().filter(pk=user.pk).exists()


def _people_of_roles_with_one() -> QuerySet[User]:
    roles = RolePolicy.objects.filter(second_factor=True)
    people = User.objects.filter(Q(role__in=roles.values("role")) | Q(Exists(roles.filter(role=Role.STAFF)), is_superuser=True))
    if settings.SSO_BRINGS_SECOND_FACTOR:
        people = people.exclude(_by_sso_alone())
    return people


def _by_sso_alone() -> Q:
    """Whoever has no other way in than single sign-on, whose provider asks for a second factor itself."""
    theirs = Identity.objects.filter(user=OuterRef("pk"))
    sso = Q(source__startswith="sso:")
    others = (theirs.exclude(sso), *(accounts.filter(user=OuterRef("pk")) for accounts in REALM_ACCOUNTS))
    return Q(Exists(theirs.filter(sso)), *(~Exists(each) for each in others), password__startswith=UNUSABLE_PASSWORD_PREFIX)
