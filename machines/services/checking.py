"""Whether a cluster can be used as it is set up. Pages record the wish; the watcher asks the cluster."""

from dataclasses import asdict

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.services import audit
from machines.models import Cluster, ClusterReport
from machines.providers.base import Provider
from machines.providers.errors import ProviderError, Unsupported
from machines.providers.registry import provider_class
from machines.providers.types import Check

from .feed import publish

MOST_LINES = 200
LONGEST_LINE = 1000


def ask(cluster: Cluster, *, acting_user: User) -> None:
    """Have the watcher try the connection and say what is missing."""
    with transaction.atomic():
        Cluster.objects.filter(pk=cluster.pk).update(check_asked_at=timezone.now())
        audit.record("cluster.check", acting_user=acting_user, target=cluster)


def ask_sync(cluster: Cluster, *, acting_user: User) -> None:
    """Have the watcher read the templates now, not within the minute."""
    with transaction.atomic():
        Cluster.objects.filter(pk=cluster.pk).update(sync_asked_at=timezone.now())
        audit.record("cluster.sync_templates", acting_user=acting_user, target=cluster)


def look(cluster: Cluster, provider: Provider) -> None:
    """Answer a wish. What the cluster shows as its certificates comes last, for who compares fingerprints."""
    _write(cluster, [*provider.check(), *_certificates(cluster)])


def tell(cluster: Cluster, error: ProviderError) -> None:
    """Answer a wish where there is nobody to ask: the settings themselves are wrong."""
    if cluster.check_asked_at is not None:
        _write(cluster, [Check(_("Settings"), False, f"{error.message} {error.detail}".strip()), *_certificates(cluster)])


def _certificates(cluster: Cluster) -> list[Check]:
    try:
        return provider_class(cluster.kind).certificates(cluster.config)
    except Unsupported:
        return []


def synced(cluster: Cluster) -> None:
    if cluster.sync_asked_at is not None:
        Cluster.objects.filter(pk=cluster.pk, sync_asked_at=cluster.sync_asked_at).update(sync_asked_at=None)


def _write(cluster: Cluster, checks: list[Check]) -> None:
    lines = [{name: value if isinstance(value, bool) else value[:LONGEST_LINE] for name, value in asdict(check).items()} for check in checks[:MOST_LINES]]
    with transaction.atomic():
        ClusterReport.objects.update_or_create(cluster=cluster, defaults={"checks": lines, "checked_at": timezone.now()})
        # One that was asked for meanwhile may be about other settings: it is answered next.
        Cluster.objects.filter(pk=cluster.pk, check_asked_at=cluster.check_asked_at).update(check_asked_at=None)
        publish(f"cluster:{cluster.pk}")
