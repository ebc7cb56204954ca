"""People of a Proxmox VE realm sign in with their account there. Off, unless a cluster's config says `realm_login`.

A person is known by the cluster and its own name for the account: no name that is typed leads to an account that
was not made here for that identity. Passwords are handed on, and neither kept nor logged.
"""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as OutOfTime
from functools import cache
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.utils.translation import gettext as _

from accounts.models import Role, User
from accounts.services import audit
from accounts.services.roles import RoleRefused, set_role
from machines.models import Cluster, ClusterKind, RealmIdentity
from machines.providers.errors import ProviderError

from .refusal import Refused

log = logging.getLogger(__name__)

BUDGET_SECONDS = 6.0  # for all clusters together, however they are; Proxmox VE takes 3 s to say that a password is wrong
AT_ONCE = 8
LONGEST_NAME = 100

Answer = dict[str, Any] | None


def offered() -> QuerySet[Cluster]:
    """The clusters whose people may sign in."""
    return Cluster.objects.filter(kind=ClusterKind.PROXMOX, config__realm_login=True).order_by("pk")


def accounts() -> QuerySet[Any]:
    """The accounts of theirs that lead to somebody, as `accounts.policies.REALM_ACCOUNTS` wants them."""
    return RealmIdentity.objects.filter(cluster__in=offered()).annotate(name=F("userid"))


def sign_in(typed: str, password: str) -> User | None:
    """The person with this account of a cluster, made at the first time; None where name or password are wrong, nobody
    answers in time, or the person was deactivated. Raises Refused where the account wants more than a password, or the
    cluster of somebody who was here before does not answer: nobody becomes another person because of that."""
    userid = typed.strip()
    if not password:
        return None
    end = time.monotonic() + BUDGET_SECONDS
    theirs, others = _to_ask(userid)
    found = _ask(theirs, userid, password, end, wait_for_each=True) or _ask(others, userid, password, end)
    if found is None:
        return None
    cluster, answer = found
    user = _user(cluster, str(answer["user"]))
    if user is None or not user.is_active:
        return None
    _settle_role(user, cluster, str(answer["user"]), answer["groups"])
    return user


def judges(typed: str) -> bool:
    """Whether a cluster is asked whether a password is that of this name."""
    return any(_to_ask(typed.strip()))


def _to_ask(userid: str) -> tuple[list[Cluster], list[Cluster]]:
    """The clusters where somebody of this name was here from, and others that may have one."""
    if userid.count("@") != 1 or len(userid) > LONGEST_NAME:
        return [], []
    known = set(RealmIdentity.objects.filter(userid=userid).values_list("cluster", flat=True))
    theirs: list[Cluster] = []
    others: list[Cluster] = []
    for cluster in offered():
        if cluster.pk in known:
            theirs.append(cluster)
        elif _may_have(cluster, userid.partition("@")[2]):
            others.append(cluster)
    return theirs, others


def _may_have(cluster: Cluster, realm: str) -> bool:
    """Whether the password of a name in this realm is the cluster's business. With a dot it is most likely of an e-mail
    address, whoever has that: such a realm is known by somebody of it whom the settings of the cluster name, or who was
    here. Nothing of this depends on who has an account here: the time of an answer does not tell."""
    if "." not in realm:
        return True
    named = (str(cluster.config.get("user", "")), *map(str, cluster.config.get("admin_users") or ()))
    return any(name.partition("@")[2] == realm for name in named) or RealmIdentity.objects.filter(cluster=cluster, userid__endswith=f"@{realm}").exists()


def _ask(clusters: list[Cluster], userid: str, password: str, end: float, *, wait_for_each: bool = False) -> tuple[Cluster, dict[str, Any]] | None:
    """The first of `clusters`, which are asked at the same time, where the person has this password. With `wait_for_each`
    none is passed over that does not answer. Raises Refused."""
    asked = [(cluster, _threads().submit(_login, dict(cluster.config), userid, password, cluster.secret)) for cluster in clusters]
    wants_more = False
    for cluster, future in asked:
        try:
            if answer := future.result(max(0.0, end - time.monotonic())):
                return cluster, answer
        except (OutOfTime, ProviderError) as error:
            future.cancel()
            log.info("cluster %d: no answer to a sign-in: %s", cluster.pk, type(error).__name__)
            if isinstance(error, ProviderError) and _wants_second_factor(error):
                wants_more = True
            elif wait_for_each:
                raise Refused(_("The cluster of this account does not answer at the moment. Try again in a minute."), code="unreachable") from error
    if wants_more:
        raise Refused(_("This account asks for a second factor, which cannot be given here. Ask the staff for an account of the portal."), code="second_factor")
    return None


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="realm")


def _login(config: Mapping[str, Any], userid: str, password: str, secret: str) -> Answer:
    from machines.providers.proxmox.access import realm_login  # its libraries are loaded where a cluster needs them

    return realm_login(config, userid, password, secret)


def _wants_second_factor(error: ProviderError) -> bool:
    from machines.providers.proxmox.client import SecondFactorWanted

    return isinstance(error, SecondFactorWanted)


def _user(cluster: Cluster, userid: str) -> User | None:
    """Whoever has this identity. A new one gets a user of its own: a name that somebody has already is not theirs."""
    known = RealmIdentity.objects.filter(cluster=cluster, userid=userid).select_related("user").first()
    if known is not None:
        return known.user
    for name in (userid.lower(), f"{userid.lower()}@{cluster.pk}"):
        try:
            with transaction.atomic():
                if User.objects.filter(username__iexact=name).exists():
                    continue
                user = User.objects.create_user(name)  # without a password: none of the portal's own opens it
                RealmIdentity.objects.create(user=user, cluster=cluster, userid=userid)
                audit.record("user.from_realm", acting_user=user, target=user, cluster=cluster.name, userid=userid)
                return user
        except IntegrityError:
            known = RealmIdentity.objects.filter(cluster=cluster, userid=userid).select_related("user").first()
            if known is not None:
                return known.user  # made this moment by a second sign-in
    log.warning("cluster %d: no user name is free for %r", cluster.pk, userid)
    return None


def _settle_role(user: User, cluster: Cluster, userid: str, groups: list[str] | None) -> None:
    """Staff while the cluster says so. What the cluster did not give it does not take, and where its groups could not
    be read (None) they give and take nothing."""
    group = cluster.config.get("admin_group")
    entitled = userid in (cluster.config.get("admin_users") or ()) or bool(group and group in (groups or ()))
    if group and groups is None and not entitled:
        log.warning("cluster %d: the groups of %r cannot be read, the role stays", cluster.pk, userid)
        return
    with transaction.atomic():
        identity = RealmIdentity.objects.select_for_update().get(cluster=cluster, userid=userid)
        if entitled and user.role != Role.STAFF:
            identity.role_before = user.role
            set_role(user, Role.STAFF, acting_user=None)
        elif not entitled and identity.role_before:
            if user.role == Role.STAFF:
                try:
                    set_role(user, identity.role_before, acting_user=None)
                except RoleRefused:
                    return  # made superuser here since, or the last who runs the portal
            identity.role_before = ""
        else:
            return
        identity.save(update_fields=["role_before"])
