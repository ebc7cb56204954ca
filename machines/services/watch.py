"""Watching the clusters: what is there, what goes on, what a crash left behind.

Two threads for each cluster, so that one that hangs holds up no other: one looks and follows what
goes on, the other does what may take its time. Any number of watchers may run; each cluster is
watched by the one that holds the lease in its row.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connections, transaction
from django.db.models import Q
from django.utils import timezone

from accounts.services import directory_sync, letters
from machines.models import Cluster
from machines.providers.base import Provider
from machines.providers.errors import ProviderError

from . import answering, catalog, checking, dispatch, gateway, heartbeats, inventory, locating, outbox, sweep, waiting

log = logging.getLogger(__name__)

# Renewed before each look, if it is so old, a lease outlives the look: 20 s, and some for the labels of new machines.
LEAD_SECONDS, RENEW_SECONDS = 30, 4
POLL_SECONDS = 0.25  # while something is waited for
# A cluster where much happens tells of it many times a second. It is asked after its tasks, looked at whole and
# its progress written not more often than this: whoever waits notices no difference, and the database does.
TURN_SECONDS, INVENTORY_SECONDS, PROGRESS_SECONDS = 0.1, 0.5, 1.0
TROUBLE_SECONDS = 3  # between two looks at a cluster that does not answer
TEMPLATES_SECONDS = 60
ERRANDS_SECONDS = 0.5  # between two looks whether there is one
HEARTBEAT_SECONDS = 5
DIRECTORY_SECONDS = 30  # between two looks whether its nightly sync is due
STOP_SECONDS = 1.0  # a thread that hangs in a call is not waited for any longer


def lead(cluster: Cluster, token: str) -> bool:
    """Whether the watcher `token` leads this cluster; takes or renews the lease where it may."""
    now = timezone.now()
    fresh = now + timedelta(seconds=LEAD_SECONDS - RENEW_SECONDS)
    if cluster.watcher == token and cluster.watcher_until is not None and cluster.watcher_until > fresh:
        return True
    free = Q(watcher=token) | Q(watcher="") | Q(watcher_until=None) | Q(watcher_until__lt=now)
    until = now + timedelta(seconds=LEAD_SECONDS)
    with transaction.atomic():
        leads = bool(Cluster.objects.filter(free, pk=cluster.pk).update(watcher=token, watcher_until=until))
    if leads:
        cluster.watcher, cluster.watcher_until = token, until
    return leads


def resign(token: str) -> None:
    """Leave the clusters of `token` to other watchers at once."""
    Cluster.objects.filter(watcher=token).update(watcher="", watcher_until=None)


class ClusterThread(threading.Thread):
    """Does its `turn` for one cluster, over and over, until `stop`, or until the cluster's row is gone."""

    def __init__(self, name: str, pk: int, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.pk = pk
        self.leads = False
        self._stop_asked = stop

    def turn(self) -> bool:
        """One look and the pause after it. False: the cluster was removed."""
        raise NotImplementedError

    def run(self) -> None:
        try:
            while not self._stop_asked.is_set():
                try:
                    if not self.turn():
                        return
                except DatabaseError:
                    log.exception("cluster %d: the database fails", self.pk)
                    self._stop_asked.wait(TROUBLE_SECONDS)
                except Exception:
                    log.exception("cluster %d: unexpected", self.pk)
                    self._stop_asked.wait(TROUBLE_SECONDS)
                close_old_connections()
        finally:
            self.leads = False
            gateway.close_providers()
            connections.close_all()


class ClusterWatch(ClusterThread):
    """Looks at a cluster, and follows what is waited for on it."""

    def __init__(self, pk: int, token: str, stop: threading.Event) -> None:
        super().__init__(f"cluster-{pk}", pk, stop)
        self.token = token
        self._pace = waiting.Pace()
        self._last_inventory = self._next_inventory = self._next_progress = 0.0

    def turn(self) -> bool:
        cluster = Cluster.objects.filter(pk=self.pk).first()
        if cluster is None:
            return False
        self.leads = lead(cluster, self.token)
        if not self.leads:
            self._stop_asked.wait(1)
            return True
        provider = None
        try:
            provider = gateway.provider_for(cluster)
            self._look(cluster, provider)
            self._pause(cluster, provider)
        except ProviderError as error:
            if provider is None:  # its settings are wrong: whoever waits for it fails with that reason when his time is over
                waiting.poll(cluster, None)
            inventory.note_trouble(cluster, error)
            self._stop_asked.wait(TROUBLE_SECONDS)
        return True

    def _look(self, cluster: Cluster, provider: Provider) -> None:
        now = time.monotonic()
        try:
            if now >= self._next_inventory:
                inventory.look(cluster, provider)
                self._last_inventory, self._next_inventory = now, now + max(settings.WATCH_SECONDS, provider.capabilities.inventory_seconds)
        finally:
            lead(cluster, self.token)
            progress = now >= self._next_progress
            if progress:
                self._next_progress = now + PROGRESS_SECONDS
            waiting.poll(cluster, provider, progress=progress, pace=self._pace)  # calls back whose time is over even when nobody answers

    def _pause(self, cluster: Cluster, provider: Provider) -> None:
        """Until the next look is due, or something happens on the cluster."""
        if self._stop_asked.wait(TURN_SECONDS):
            return
        left = max(0.0, self._next_inventory - time.monotonic())
        if waiting.any_waiting(cluster) or not provider.capabilities.events:  # the next moment something may be waited for
            left = min(left, POLL_SECONDS)
        if not provider.capabilities.events:
            self._stop_asked.wait(left)
        elif provider.wait_for_change(left):
            self._next_inventory = min(self._next_inventory, self._last_inventory + INVENTORY_SECONDS)


class ClusterErrands(ClusterThread):
    """Tests the connection of a cluster when somebody wishes it, and reads its templates: that asks much of it,
    and a storage that hangs is waited for."""

    def __init__(self, watch: ClusterWatch, stop: threading.Event) -> None:
        super().__init__(f"errands-{watch.pk}", watch.pk, stop)
        self._watch = watch
        self._next_templates = 0.0

    def turn(self) -> bool:
        cluster = Cluster.objects.filter(pk=self.pk).first()
        if cluster is None:
            return False
        pause = ERRANDS_SECONDS
        if self._watch.leads:
            provider = None
            try:
                provider = gateway.provider_for(cluster)
                self._run(cluster, provider)
            except ProviderError as error:  # its watch notes that the cluster does not answer
                if provider is None:
                    checking.tell(cluster, error)
                log.warning("cluster %s: %s", cluster, error)
                pause = TROUBLE_SECONDS
        self._stop_asked.wait(pause)
        return True

    def _run(self, cluster: Cluster, provider: Provider) -> None:
        if cluster.check_asked_at is not None:
            checking.look(cluster, provider)
        if provider.capabilities.templates and (cluster.sync_asked_at is not None or time.monotonic() >= self._next_templates):
            catalog.sync_templates(cluster, provider)
            checking.synced(cluster)
            self._next_templates = time.monotonic() + TEMPLATES_SECONDS


class Rounds(threading.Thread):
    """Goes round the machines of the clusters this watcher leads with `look`, over and over; `idle`: also where it leads none."""

    def __init__(
        self, name: str, look: Callable[[Collection[int]], object], watches: dict[int, ClusterWatch], stop: threading.Event, *, idle: bool = False
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._do, self._watches, self._stop_asked, self._idle = look, watches, stop, idle

    def run(self) -> None:
        try:
            while not self._stop_asked.wait(0.5):
                try:
                    led = [pk for pk, watch in list(self._watches.items()) if watch.leads]
                    if led or self._idle:
                        self._do(led)
                except Exception:
                    log.exception("%s failed", self.name)
                close_old_connections()
        finally:
            gateway.close_providers()
            connections.close_all()


@dataclass
class Chore:
    """Something done every few seconds. Its failure is logged and keeps nobody else from theirs."""

    seconds: float
    do: Callable[[], object]
    _next: float = 0.0

    def run_if_due(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self.seconds
        try:
            self.do()
        except Exception:
            log.exception("%s failed", getattr(self.do, "__name__", self.do))


class Aside(threading.Thread):
    """A chore that may take its time."""

    def __init__(self, name: str, chore: Chore, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self._chore, self._stop_asked = chore, stop

    def run(self) -> None:
        try:
            while not self._stop_asked.wait(1):
                self._chore.run_if_due()
                close_old_connections()
        finally:
            connections.close_all()


def run(stop: threading.Event) -> None:
    """Watch all clusters, those included that are added later, and keep house until `stop`."""
    token = uuid.uuid4().hex
    watches: dict[int, ClusterWatch] = {}
    errands: dict[int, ClusterErrands] = {}
    locator = locating.Locator()
    # Apart from each other, as a guest that answers neither is waited for.
    rounds = [
        Rounds("probing", answering.Prober().look, watches, stop),
        Rounds("locating", locator.look, watches, stop),
        Rounds("mailing", outbox.send_due, watches, stop),  # a mail server may take its time too
        Rounds("writing to people", lambda _led: letters.send_due(), watches, stop, idle=True),
    ]
    aside = Aside("directory", Chore(DIRECTORY_SECONDS, directory_sync.run_if_due), stop)
    for thread in [*rounds, aside]:
        thread.start()

    def tend() -> None:
        for pk in Cluster.objects.values_list("pk", flat=True):
            if pk not in watches or not watches[pk].is_alive():
                watches[pk] = ClusterWatch(pk, token, stop)
                errands[pk] = ClusterErrands(watches[pk], stop)
                watches[pk].start()
                errands[pk].start()
        for pk in [pk for pk, watch in watches.items() if not watch.is_alive()]:
            del watches[pk], errands[pk]

    def show_life() -> None:
        heartbeats.beat("watcher")
        dispatch.ask_heartbeat()

    def trim() -> None:
        sweep.trim()
        outbox.trim()
        letters.trim()
        heartbeats.forget_old()

    chores = [Chore(1, tend), Chore(1, dispatch.ring_if_due), Chore(3, sweep.sweep), Chore(HEARTBEAT_SECONDS, show_life), Chore(60, trim)]
    try:
        while not stop.wait(0.2):
            for chore in chores:
                chore.run_if_due()
            close_old_connections()
    finally:
        stop.set()
        end = time.monotonic() + STOP_SECONDS
        for thread in [*watches.values(), *errands.values(), *rounds, aside]:
            thread.join(max(0.0, end - time.monotonic()))
        resign(token)
        locator.close()
