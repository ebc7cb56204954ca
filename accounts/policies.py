"""What is asked of people before they may do anything."""

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.db.models import Exists, OuterRef, Q, QuerySet

from .models import Identity, Role, RolePolicy, User

FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)  # recovery codes only stand in for one of these


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
        people = people.exclude(_signs_in_elsewhere_alone())
    return people


def _signs_in_elsewhere_alone() -> Q:
    """Whoever has no other way in than single sign-on, whose provider asks for a second factor itself."""
    theirs = Identity.objects.filter(user=OuterRef("pk"))
    sso = Q(source__startswith="sso:")
    return Q(Exists(theirs.filter(sso)), ~Exists(theirs.exclude(sso)), password__startswith=UNUSABLE_PASSWORD_PREFIX)
