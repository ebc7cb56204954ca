"""Looking at a whole cluster and writing down what is new."""

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.services import audit
from machines.lifecycle import Event, State
from machines.models import Cluster, ClusterReport, Machine, Node
from machines.providers.base import Provider
from machines.providers.errors import ProviderError
from machines.providers.registry import provider_class
from machines.providers.types import Inventory, Stage

from . import reconcile, refs, transitions, waiting
from .feed import machine_topics, publish

log = logging.getLogger(__name__)

AT_ONCE = 200  # rows written in one transaction, so that nobody waits long for the next
ORPHANS_TOLD = 50
GUESTS_TOLD = 1000
MOST = 2**31 - 1


def look(cluster: Cluster, provider: Provider) -> Inventory:
    """One pass: ask, compare, write. Raises what `Provider.inventory` raises, and then nothing
    was concluded."""
    began = timezone.now()
    inventory = provider.inventory()
    apply(cluster, inventory, began=began)
    return inventory


def apply(cluster: Cluster, inventory: Inventory, *, began: datetime) -> reconcile.Plan:
    plan = reconcile.plan(_known(cluster, began), inventory, portal=settings.PORTAL_ID, began=began)
    for some in _portions(plan.changes):
        _write(some)
    _write_nodes(cluster, inventory)
    _write_guests(cluster, inventory)
    problem = ""
    if alarm := plan.alarm:
        problem = _("%(vanished)d of %(of)d machines vanished at once. Looking again before that is believed (%(sighting)d of %(needed)d).") % {
            "vanished": alarm.vanished,
            "of": alarm.of,
            "sighting": alarm.sighting,
            "needed": alarm.needed,
        }
    disk = {"disk_free_gib": _figure(inventory.disk.free_gib), "disk_total_gib": _figure(inventory.disk.total_gib)} if inventory.disk else {}
    _note(cluster, reachable=True, problem=problem, seen_at=began, orphans=_orphans(cluster, plan), taken=_taken(cluster, inventory), **disk)
    return plan


def note_trouble(cluster: Cluster, error: ProviderError) -> None:
    """The cluster could not be looked at. What is known of its machines stays as it is."""
    log.warning("cluster %s: %s", cluster, error)
    _note(cluster, reachable=False, problem=error.message)


def _known(cluster: Cluster, began: datetime) -> Iterator[reconcile.Known]:
    columns = ("pk", "key", "ref", "state", "state_since", "made_at", "power", "node", "endpoints", "misses", "answering_since")
    for pk, key, ref, state, since, made_at, power, node, endpoints, misses, answering_since in (
        Machine.objects.filter(cluster=cluster).exclude(state=State.DESTROYED, state_since__lt=began).values_list(*columns)
    ):
        yield reconcile.Known(
            pk=pk,
            key=str(key),
            ref=ref,
            state=State(state),
            state_since=since,
            made=made_at is not None,
            power=power,
            node=node,
            endpoints=tuple(endpoints),
            misses=misses,
            answering=answering_since is not None,
        )


def _portions(changes: list[reconcile.Change]) -> Iterator[list[reconcile.Change]]:
    for start in range(0, len(changes), AT_ONCE):
        yield changes[start : start + AT_ONCE]


def _write(changes: list[reconcile.Change]) -> None:
    """Each row is looked at again under its lock: one that moved meanwhile is left to the next pass."""
    now, written, topics = timezone.now(), [], set()
    with transaction.atomic():
        transitions.lock(change.known.pk for change in changes)
        rows = Machine.objects.in_bulk([change.known.pk for change in changes])
        for change in changes:
            machine, known = rows.get(change.known.pk), change.known
            if machine is None or machine.state != known.state or machine.state_since != known.state_since:
                continue
            columns: dict[str, Any] = dict(change.columns)
            if "endpoints" in columns:
                columns["endpoints"] = list(columns["endpoints"])
            if set(columns) - {"misses"}:
                columns["seen_at"] = now
            if change.event is not None:
                problem = _("The cluster does not find this machine any more.") if change.event is Event.NOT_FOUND else ""
                transitions.apply(machine, change.event, problem=problem, code="missing" if problem else "", **columns)
                audit.record(f"machine.{change.event}", acting_user=None, target=machine)
                log.info("machine %s: %s, now %s", machine.key, change.event, machine.state)
            else:
                for column, value in columns.items():
                    setattr(machine, column, value)
                written.append(machine)
                if "seen_at" in columns:
                    topics.update(machine_topics(machine))
        Machine.objects.bulk_update(written, ["power", "node", "endpoints", "misses", "answering_since", "seen_at"])
        publish(*sorted(topics))


def _write_nodes(cluster: Cluster, inventory: Inventory) -> None:
    before = {node.name: node for node in cluster.nodes.all()}
    for seen in inventory.nodes:
        columns = {
            "online": seen.online,
            "cores": _figure(seen.cores),
            "memory_total_mib": _figure(seen.memory_total_mib),
            # In steps: what changes with every breath of a host is not worth a write a second.
            "memory_free_mib": _figure(seen.memory_free_mib) // 256 * 256,
        }
        node = before.pop(seen.name, None)
        if node is None:
            Node.objects.create(cluster=cluster, name=seen.name, **columns)
        elif any(getattr(node, column) != value for column, value in columns.items()):
            Node.objects.filter(pk=node.pk).update(**columns)
    for node in before.values():
        if node.online:
            Node.objects.filter(pk=node.pk).update(online=False)


def _figure(told: int) -> int:
    """What a database takes: a cluster may say anything."""
    return min(max(told, 0), MOST)


def _write_guests(cluster: Cluster, inventory: Inventory) -> None:
    """What is finished and has nobody's label on it, where staff may adopt it."""
    if not provider_class(cluster.kind).capabilities.adoption:
        return
    nameless = [one for one in inventory.machines if one.identity is None and one.stage is Stage.READY]
    nameless.sort(key=lambda one: (len(one.ref), one.ref))
    guests = [{"ref": one.ref, "name": one.name, "kind": one.kind, "node": one.node, "power": str(one.power)} for one in nameless[:GUESTS_TOLD]]
    known = ClusterReport.objects.filter(cluster=cluster).values_list("guests", flat=True).first()
    if known != guests:
        ClusterReport.objects.update_or_create(cluster=cluster, defaults={"guests": guests, "guests_at": timezone.now()})


def _orphans(cluster: Cluster, plan: reconcile.Plan) -> list[dict[str, str]]:
    """Told for staff, never touched."""
    orphans = sorted(({"ref": one.ref, "name": one.name} for one in plan.orphans), key=lambda one: one["ref"])[:ORPHANS_TOLD]
    new = [one["ref"] for one in orphans if one not in cluster.orphans]
    if new:
        log.warning("cluster %s: %d with our label and no row, left alone: %s", cluster, len(plan.orphans), ", ".join(new))
    return orphans


def _taken(cluster: Cluster, inventory: Inventory) -> list[str]:
    """The numbers of our range that others have."""
    if not refs.is_numbered(cluster):
        return []
    ours, portal = refs.vmids(cluster), settings.PORTAL_ID
    others = (one.ref for one in inventory.machines if one.identity is None or one.identity.portal != portal)
    return sorted(ref for ref in others if ref.isdecimal() and int(ref) in ours)


def _note(cluster: Cluster, *, reachable: bool, problem: str, **columns: Any) -> None:
    """What is known of the cluster itself; its pages are told only of what they show."""
    changed = (cluster.reachable, cluster.problem, cluster.orphans) != (reachable, problem, columns.get("orphans", cluster.orphans))
    back = reachable and not cluster.reachable
    columns |= {"reachable": reachable, "problem": problem}
    with transaction.atomic():
        Cluster.objects.filter(pk=cluster.pk).update(**columns)
        if changed:
            publish(f"cluster:{cluster.pk}")
    for column, value in columns.items():
        setattr(cluster, column, value)
    if back:
        waiting.hurry(cluster)
