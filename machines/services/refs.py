"""Under which name a cluster has a machine: chosen here and stored before the call that makes it."""

import uuid
from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from machines.models import BurnedRef, Cluster, Machine
from machines.providers.errors import InvalidSpec, NoCapacity
from machines.providers.registry import provider_class
from machines.providers.types import VMIDS

BURNED = timedelta(days=30)


def is_numbered(cluster: Cluster) -> bool:
    return provider_class(cluster.kind).capabilities.numbered


def vmids(cluster: Cluster) -> range:
    """The numbers this portal may use. Raises InvalidSpec for a range that is none."""
    match cluster.config.get("vmids", VMIDS):
        case [int(first), int(last)] | (int(first), int(last)) if 100 <= first <= last <= 999_999_999:
            return range(first, last + 1)
    raise InvalidSpec("vmids", message=_("The range of numbers that is set for this cluster is none."))


def take(machine: Machine) -> str:
    """A ref for this machine, written to its row. One it has already was found to be somebody
    else's and is not used again. Locks the cluster's row. Raises NoCapacity, InvalidSpec."""
    if not is_numbered(machine.cluster):
        return str(uuid.uuid4()) if machine.ref else str(machine.key)
    with transaction.atomic():
        cluster = Cluster.objects.select_for_update().get(pk=machine.cluster_id)
        if machine.ref:
            burn(cluster, machine.ref)
        ours = vmids(cluster)
        used = set(Machine.objects.filter(cluster=cluster).exclude(ref="").values_list("ref", flat=True))
        used.update(BurnedRef.objects.filter(cluster=cluster, until__gt=timezone.now()).values_list("ref", flat=True), cluster.taken)
        ref = next((str(number) for number in ours if str(number) not in used), None)
        if ref is None:
            raise NoCapacity(f"{ours} is used up", message=_("All numbers that this cluster may use are taken."))
        Machine.objects.filter(pk=machine.pk).update(ref=ref)
    return ref


def burn(cluster: Cluster, ref: str) -> None:
    """Give this number to nobody for a while."""
    if ref and is_numbered(cluster):
        BurnedRef.objects.update_or_create(cluster=cluster, ref=ref, defaults={"until": timezone.now() + BURNED})


def note_adopted(cluster: Cluster, ref: str) -> None:
    """Have the provider look for our label there too, wherever our range is. In a transaction; locks the cluster's row."""
    adopted = Cluster.objects.select_for_update().values_list("adopted", flat=True).get(pk=cluster.pk)
    Cluster.objects.filter(pk=cluster.pk).update(adopted=sorted({*adopted, ref}))


def forget_adopted(cluster: Cluster, ref: str) -> None:
    adopted = Cluster.objects.select_for_update().values_list("adopted", flat=True).get(pk=cluster.pk)
    Cluster.objects.filter(pk=cluster.pk).update(adopted=sorted({*adopted} - {ref}))


def trim() -> None:
    BurnedRef.objects.filter(until__lt=timezone.now()).delete()
