"""Where guests are that have an address of their own. The inventory has none of them, as the guest
or its network is asked; what they say is a claim (`addresses` decides whether it is believed)."""

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from machines.lifecycle import State
from machines.models import Cluster, Machine
from machines.providers.errors import ProviderError
from machines.providers.types import Endpoint

from . import gateway
from .addresses import believable, literal
from .feed import machine_topics, publish
from .neighbours import hardware_address, stir, table
from .refusal import Refused

log = logging.getLogger(__name__)

# Seconds after power-on at which a guest is asked. One that never answered by the last is not asked again before
# somebody wants it: a silent agent holds a worker of its node for seconds.
AFTER_SECONDS = (5.0, 10.0, 20.0, 40.0, 60.0)
AGAIN_SECONDS = 60.0  # between two questions to one that answers: an address may change
ON_DEMAND_SECONDS = 10  # between two wishes to look again
STIR_SECONDS = 60.0  # between two scans of a network that may be scanned
MOST_ADDRESSES = 16  # of one guest, however many it says it has
NODES_AT_ONCE = 4  # and one guest of each at a time
NODE_SECONDS = 1.0  # for the guests of one node in a round; the last of them may take longer

Mark = tuple[int, object]


@dataclass
class _Known:
    """What the watcher remembers of one machine while it is on."""

    asked: float = -1.0  # when, as seconds after power-on; before that, never
    answers: bool = False


def ask_again(machine: Machine) -> None:
    """Have the guest asked once more, whatever it answered before. Raises Refused where that was wanted a moment ago."""
    now = timezone.now()
    lately = Q(address_asked_at__gt=now - timedelta(seconds=ON_DEMAND_SECONDS))
    if not Machine.objects.filter(pk=machine.pk).exclude(lately).update(address_asked_at=now):
        raise Refused(_("The address is being looked for. Wait a few seconds before you look again."), code="too_often")


class Locator:
    """Asks the clusters for the addresses of machines that are on and that no forward leads to."""

    def __init__(self) -> None:
        self._known: dict[Mark, _Known] = {}
        self._stirred: dict[int, float] = {}
        # One thread each: a node is asked by the same one, which knows it from the last time.
        self._lanes = [ThreadPoolExecutor(1, thread_name_prefix=f"locating-{number}") for number in range(NODES_AT_ONCE)]
        self._lane_of: dict[tuple[int, str], int] = {}

    def close(self) -> None:
        """Give back what its threads hold, and end them."""
        for lane in self._lanes:
            lane.submit(gateway.close_providers)
            lane.shutdown()

    def look(self, clusters: Collection[int]) -> int:
        """One round over the machines of `clusters`. Returns of how many it learned something new."""
        asked = {cluster.pk: cluster for cluster in _asked(clusters)}
        # Only where an inventory was taken since: it is quicker, and it brings the forwards.
        on = Machine.objects.filter(cluster_id__in=asked, state=State.RUNNING, state_since__lt=F("cluster__seen_at"))
        columns = ("key", "name", "ref", "node", "cluster", "owner", "state_since", "address_asked_at", "address_seen_at", "endpoints", "told_since")
        known, due = dict[Mark, _Known](), defaultdict[tuple[int, str], list[Machine]](list)
        for machine in on.only(*columns).order_by("-state_since"):
            if any(endpoint["source"] == "forward" for endpoint in machine.endpoints):
                continue
            mark = machine.pk, machine.state_since
            known[mark] = self._known.get(mark) or _Known()
            if _is_due(machine, known[mark]):
                due[machine.cluster_id, machine.node].append(machine)
        self._known = known
        told: list[tuple[Machine, tuple[Endpoint, ...]]] = []
        answers = []
        for place, machines in sorted(due.items()):
            machines.sort(key=lambda machine: known[machine.pk, machine.state_since].asked)
            lane = self._lanes[self._lane_of.setdefault(place, len(self._lane_of) % NODES_AT_ONCE)]
            answers.append(lane.submit(_ask_node, asked[place[0]], machines))
        for answer in answers:
            told += answer.result()
        self._stir(asked, [machine for machine, _ in told])
        neighbours = table() if told else {}
        learned = 0
        for machine, claims in told:
            state = known[machine.pk, machine.state_since]
            state.asked = _age(machine)
            state.answers = any(end.service != "mac" for end in claims)
            learned += _keep(machine, [*claims, *_in_network(claims, neighbours)])
        return learned

    def _stir(self, clusters: Mapping[int, Cluster], machines: Iterable[Machine]) -> None:
        for pk in {machine.cluster_id for machine in machines}:
            if clusters[pk].config.get("active_scan") is True and time.monotonic() >= self._stirred.get(pk, 0.0):
                self._stirred[pk] = time.monotonic() + STIR_SECONDS
                stir([str(network) for network in believable(clusters[pk].networks)])


def _is_due(machine: Machine, known: _Known) -> bool:
    age = _age(machine)
    if machine.address_asked_at is not None and (machine.address_asked_at - machine.state_since).total_seconds() > known.asked:
        return True
    if known.answers:
        return age >= known.asked + AGAIN_SECONDS
    if known.asked < 0:  # also after the watcher was started again: once
        return age >= AFTER_SECONDS[0]
    return any(known.asked < moment <= age for moment in AFTER_SECONDS)


def _age(machine: Machine) -> float:
    return (timezone.now() - machine.state_since).total_seconds()


def _in_network(claims: Iterable[Endpoint], neighbours: Mapping[str, Iterable[str]]) -> list[Endpoint]:
    """Where the portal's own network has the guest."""
    macs = [mac for end in claims if end.service == "mac" and (mac := hardware_address(end.host))]
    return [Endpoint("guest", host, source="arp") for mac in macs for host in neighbours.get(mac, ())]


def _ask_node(cluster: Cluster, machines: Iterable[Machine]) -> list[tuple[Machine, tuple[Endpoint, ...]]]:
    """Its guests, one after the other, as many as there is time for: nobody waits for all the silent ones of a node."""
    end = time.monotonic() + NODE_SECONDS
    told: list[tuple[Machine, tuple[Endpoint, ...]]] = []
    for machine in machines:
        told.append((machine, _ask(cluster, machine)))
        if time.monotonic() >= end:
            break
    return told


def _ask(cluster: Cluster, machine: Machine) -> tuple[Endpoint, ...]:
    """Whatever the cluster says, nothing where it does not. In a thread of its own, without the database."""
    try:
        return gateway.provider_for(cluster).endpoints(gateway.identity(machine), machine.ref)
    except ProviderError as error:
        log.info("machine %s: no address: %s", machine.key, error)
        return ()


def _asked(clusters: Collection[int]) -> Iterable[Cluster]:
    for cluster in Cluster.objects.filter(pk__in=clusters, reachable=True):
        try:
            provider = gateway.provider_for(cluster)
        except ProviderError:
            continue  # the watch of the cluster says so
        if provider.capabilities.endpoints:
            yield cluster


def _keep(machine: Machine, claims: Iterable[Endpoint]) -> bool:
    endpoints = _usable(claims)
    if machine.endpoints and not any(end["service"] != "mac" for end in endpoints):
        return False  # what it said before is told with its age
    same = Machine.objects.filter(pk=machine.pk, state=State.RUNNING, state_since=machine.state_since)
    now = timezone.now()
    told = {"address_seen_at": now, "told_since": _told_since(machine, endpoints, now)}
    if endpoints == machine.endpoints:
        same.update(**told)
        return False
    with transaction.atomic():
        if not same.update(endpoints=endpoints, seen_at=now, **told):
            return False
        publish(*machine_topics(machine))
    return True


def _told_since(machine: Machine, endpoints: Iterable[Mapping[str, Any]], now: datetime) -> dict[str, str]:
    addresses = [str(address) for end in endpoints if end["service"] != "mac" and (address := literal(end["host"]))]
    return {address: machine.told_since.get(address) or now.isoformat() for address in addresses}


def _usable(claimed: Iterable[Endpoint]) -> list[dict[str, Any]]:
    """What may be kept of it, in a fixed order, so that a guest that says the same in another one has said nothing new."""
    believable = {(_rank(end), end.service, end.host, end.port, end.source) for end in claimed if _is_sound(end)}
    return [{"service": service, "host": host, "port": port, "source": source} for rank, service, host, port, source in sorted(believable)[:MOST_ADDRESSES]]


def _is_sound(end: Endpoint) -> bool:
    if end.service == "mac":
        return bool(hardware_address(end.host))
    return end.source == "forward" or literal(end.host) is not None


def _rank(end: Endpoint) -> int:
    """A guest that says very much crowds out only itself."""
    order = {"forward": 0, "config": 1, "arp": 2}
    return order.get(end.source, 3)
