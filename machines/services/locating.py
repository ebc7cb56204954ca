"""Where guests are that have an address of their own. The inventory has none of them, as the guest
or its network is asked; what they say is a claim (`addresses` decides whether it is believed)."""

import logging
import time
from collections.abc import Collection, Iterable
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from machines.lifecycle import State
from machines.models import Cluster, Machine
from machines.providers.base import Provider
from machines.providers.errors import ProviderError
from machines.providers.types import Endpoint
from machines.selectors.load import BOOTING_SECONDS

from . import gateway
from .addresses import literal
from .feed import machine_topics, publish

log = logging.getLogger(__name__)

SOON_SECONDS = 3  # between two questions while a guest boots
AGAIN_SECONDS = 60  # and afterwards, or where asking failed: an address may change
MOST_ADDRESSES = 16  # of one guest, however many it says it has
AT_ONCE = 32

Mark = tuple[int, object]


class Locator:
    """Asks the clusters for the addresses of machines that are on and that no forward leads to."""

    def __init__(self) -> None:
        self._next: dict[Mark, float] = {}

    def look(self, clusters: Collection[int]) -> int:
        """One round over the machines of `clusters`. Returns of how many it learned something new."""
        providers = dict(_asked(clusters))
        # Only where an inventory was taken since: it is quicker, and it brings the forwards.
        on = Machine.objects.filter(cluster_id__in=providers, state=State.RUNNING, state_since__lt=F("cluster__seen_at"))
        learned, asked, waited = 0, 0, dict[Mark, float]()
        for machine in on.only("key", "name", "ref", "cluster", "owner", "state_since", "answering_since", "endpoints").order_by("-state_since"):
            if any(endpoint["source"] == "forward" for endpoint in machine.endpoints):
                continue
            mark = machine.pk, machine.state_since
            waited[mark] = self._next.get(mark, 0.0)
            if waited[mark] <= time.monotonic() and asked < AT_ONCE:
                asked += 1
                learned += _locate(machine, providers[machine.cluster_id])
                waited[mark] = time.monotonic() + (SOON_SECONDS if _may_boot(machine) else AGAIN_SECONDS)
        self._next = waited
        return learned


def _asked(clusters: Collection[int]) -> Iterable[tuple[int, Provider]]:
    for cluster in Cluster.objects.filter(pk__in=clusters, reachable=True):
        try:
            provider = gateway.provider_for(cluster)
        except ProviderError:
            continue  # the watch of the cluster says so
        if provider.capabilities.endpoints:
            yield cluster.pk, provider


def _may_boot(machine: Machine) -> bool:
    return machine.answering_since is None and (timezone.now() - machine.state_since).total_seconds() < BOOTING_SECONDS


def _locate(machine: Machine, provider: Provider) -> bool:
    try:
        endpoints = _usable(provider.endpoints(gateway.identity(machine), machine.ref))
    except ProviderError as error:
        log.info("machine %s: no address: %s", machine.key, error)
        return False
    if not endpoints or endpoints == machine.endpoints:
        return False
    with transaction.atomic():
        same = Machine.objects.filter(pk=machine.pk, state=State.RUNNING, state_since=machine.state_since)
        if not same.update(endpoints=endpoints, seen_at=timezone.now()):
            return False
        publish(*machine_topics(machine))
    return True


def _usable(claimed: Iterable[Endpoint]) -> list[dict[str, Any]]:
    """In a fixed order, so that a guest that says the same in another one has said nothing new."""
    believable = {(end.source != "forward", end.service, end.host, end.port, end.source) for end in claimed if end.source == "forward" or literal(end.host)}
    return [{"service": service, "host": host, "port": port, "source": source} for _, service, host, port, source in sorted(believable)[:MOST_ADDRESSES]]
