"""Machines that were there before the portal: labelled, given to people, and let go again.

What the portal may do to one is less than to its own, see `requests`: never made anew, and removed
or resized only where staff allowed that for it.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.services import audit
from machines.lifecycle import State
from machines.models import Cluster, ClusterReport, Machine, Operation, RealmIdentity, Template
from machines.providers.errors import Unsupported
from machines.providers.registry import provider_class

from . import refs, requests
from .refusal import Refused

LONGEST_MAPPING = 2000  # machines in one file
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)


def can_adopt(cluster: Cluster) -> bool:
    try:
        return provider_class(cluster.kind).capabilities.adoption
    except Unsupported:
        return False


def guests(cluster: Cluster) -> list[dict[str, str]]:
    """What the last inventory saw without anybody's label and without a row: {ref, name, kind, node, power}."""
    seen: list[dict[str, str]] = ClusterReport.objects.filter(cluster=cluster).values_list("guests", flat=True).first() or []
    ours = set(Machine.objects.filter(cluster=cluster).exclude(ref="").values_list("ref", flat=True))
    return [guest for guest in seen if guest["ref"] not in ours]


def name_for(guest: dict[str, str]) -> str:
    """A name that a machine may have, close to the one it has on the cluster."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", guest["name"])[:63].strip("-") or f"machine-{guest['ref']}"


def adopt(cluster: Cluster, ref: str, *, acting_user: User, owner: User | None, name: str = "") -> Machine:
    """A row for the guest at `ref`, and the operation that labels it. Raises Refused."""
    if not can_adopt(cluster):
        raise Refused(_("Machines of this cluster cannot be adopted."), code="unsupported")
    guest = next((guest for guest in guests(cluster) if guest["ref"] == ref), None)
    if guest is None:
        raise Refused(_("The last look at the cluster saw nothing at %(ref)s that can be adopted.") % {"ref": ref}, code="not_seen")
    name = name or name_for(guest)
    if not _HOST_NAME.fullmatch(name):
        raise Refused(_("“%(name)s” cannot be a machine's name: letters, digits and dashes, at most 63.") % {"name": name}, code="bad_name")
    try:
        with transaction.atomic():
            machine = Machine.objects.create(
                name=name, owner=owner, cluster=cluster, template=_stand_in(cluster, guest["kind"]), ref=ref, adopted=True, cores=0, memory_mib=0
            )
            refs.note_adopted(cluster, ref)
            requests.adopt(machine, acting_user=acting_user, guest=guest["name"])
    except IntegrityError as error:
        raise Refused(_("%(ref)s was adopted meanwhile.") % {"ref": ref}, code="exists") from error
    return machine


def release(machine: Machine, *, acting_user: User) -> Operation:
    """Take our label off and forget the machine, which stays as it is. Raises Refused."""
    return requests.release(machine, acting_user=acting_user)


def allow_destroying(machine: Machine, allowed: bool, *, acting_user: User) -> None:
    """Whether an adopted machine may be removed and resized like one of ours. Raises Refused."""
    if not machine.adopted:
        raise Refused(_("%(machine)s was made by the portal: nothing has to be allowed.") % {"machine": machine}, code="not_adopted")
    with transaction.atomic():
        if Machine.objects.filter(pk=machine.pk, adopted=True).exclude(may_destroy=allowed).update(may_destroy=allowed):
            audit.record("machine.destroying_allowed" if allowed else "machine.destroying_forbidden", acting_user=acting_user, target=machine)
    machine.may_destroy = allowed


def _stand_in(cluster: Cluster, kind: str) -> Template:
    """The template of machines that were made of none of ours. Offered to nobody."""
    told = {"name": _("Adopted"), "kind": kind, "active": False, "present": False, "seeded": False, "username": ""}
    return Template.objects.get_or_create(cluster=cluster, ref=f"adopted:{kind}", defaults=told)[0]


# -- many at once --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One machine of a mapping. `problem` empty: it can be adopted for `owner`."""

    who: str
    ref: str
    guest: str = ""
    owner: User | None = None
    problem: str = ""


def read_mapping(cluster: Cluster, text: str) -> list[Line]:
    """What adopting {"user@realm": [vmid, …]} would do, line by line. Raises Refused where it is no such file."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(_("This is not JSON: %(error)s") % {"error": str(error)[:200]}, code="bad_file") from error
    if not isinstance(told, dict) or not all(isinstance(numbers, list) for numbers in told.values()):
        raise Refused(_('People and their machines are expected, such as {"ada@pve": [101, 102]}.'), code="bad_file")
    if sum(len(numbers) for numbers in told.values()) > LONGEST_MAPPING:
        raise Refused(_("At most %(count)d machines can be adopted at once.") % {"count": LONGEST_MAPPING}, code="bad_file")
    seen = {guest["ref"]: guest for guest in guests(cluster)}
    ours = set(Machine.objects.filter(cluster=cluster).exclude(ref="").values_list("ref", flat=True))
    lines: list[Line] = []
    unknown = _("The portal knows nobody of this name.")
    if cluster.config.get("realm_login") is True:
        unknown = _("The portal knows nobody of this name. Whoever has the account has to sign in with it once.")
    for who, numbers in told.items():
        owner = person_for(cluster, who)
        for number in numbers:
            ref = str(number)[:100]
            problem = ""
            if isinstance(number, bool) or not isinstance(number, int | str):
                problem = _("This is not a machine's number.")
            elif ref in ours:
                problem = _("The portal has this machine already.")
            elif any(line.ref == ref for line in lines):
                problem = _("It is named twice.")
            elif ref not in seen:
                problem = _("The last look at the cluster saw no machine of this number that nobody has labelled.")
            elif owner is None:
                problem = unknown
            lines.append(Line(who, ref, seen.get(ref, {}).get("name", ""), owner, problem))
    return lines


def person_for(cluster: Cluster, who: str) -> User | None:
    """Whose account of the cluster it is; else by user name or address. What stands before the @ is a user name only where
    nobody signs in with accounts of the cluster: there it is an account, and maybe somebody else's."""
    people = User.objects.filter(is_active=True)
    account, _at, number = who.rpartition("@")
    elsewhere = {str(pk): pk for pk in Cluster.objects.values_list("pk", flat=True)}.get(number)
    known = RealmIdentity.objects.filter(Q(userid=who, cluster=cluster) | Q(userid=account, cluster=elsewhere)).first()
    if known is not None:
        return people.filter(pk=known.user_id).first()
    here = people.exclude(pk__in=RealmIdentity.objects.filter(userid__iexact=who).values("user"))  # of another cluster: an account of the same name
    found = here.filter(username=who).first() or people.filter(email__iexact=who).exclude(email="").order_by("pk").first()
    if found or cluster.config.get("realm_login") is True:
        return found
    return people.filter(username=who.partition("@")[0]).first()


def name_of(cluster: Cluster, person: User) -> str:
    """What `person_for` knows them by: their account of this cluster; that of another, with its number; their user name."""
    accounts = sorted(person.realm_identities.all(), key=lambda identity: (identity.cluster_id != cluster.pk, identity.pk))
    if not accounts:
        return person.get_username()
    return accounts[0].userid if accounts[0].cluster_id == cluster.pk else f"{accounts[0].userid}@{accounts[0].cluster_id}"


def adopt_lines(cluster: Cluster, lines: Iterable[Line], *, acting_user: User) -> tuple[list[Machine], list[str]]:
    """Those without a problem, each by itself. Returns the machines and what was refused meanwhile."""
    machines, refused = [], []
    for line in lines:
        if not line.problem:
            try:
                machines.append(adopt(cluster, line.ref, acting_user=acting_user, owner=line.owner))
            except Refused as refusal:
                refused.append(f"{line.ref}: {refusal.message}")
    return machines, refused


def mapping(cluster: Cluster) -> dict[str, list[int | str]]:
    """The adopted machines that have an owner, as `read_mapping` takes them."""
    told: dict[str, list[int | str]] = {}
    owned = Machine.objects.filter(cluster=cluster, adopted=True, owner__isnull=False).exclude(ref="").exclude(state=State.DESTROYED)
    for machine in owned.select_related("owner").prefetch_related("owner__realm_identities").order_by("owner__username", "ref"):
        assert machine.owner
        told.setdefault(name_of(cluster, machine.owner), []).append(int(machine.ref) if machine.ref.isdecimal() else machine.ref)
    return told
