"""The only caller of django-q2. What it carries is a doorbell, never the work itself: a worker
that hears it looks into the operation rows for what is due. A bell that is lost or rung twice
costs nothing; the watcher rings again while something is due."""

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django_q.models import OrmQ
from django_q.tasks import async_task

from machines.models import Operation, OperationState

WORK = "machines.tasks.work"
HEARTBEAT = "machines.tasks.heartbeat"


def ring() -> None:
    """Wake a worker. Inside a transaction the bell sounds when that commits, as the queue is
    a table of the same database.

    As many bells as there are workers may hang unheard; more would wake nobody else. They are
    locked while they are counted: whoever takes one of them waits for our commit, and so sees
    what we rang for.
    """
    with transaction.atomic(savepoint=False):
        unheard = OrmQ.objects.select_for_update(skip_locked=True).filter(lock__lte=timezone.now()).values_list("pk", flat=True)
        if len(unheard[: settings.WORKERS]) < settings.WORKERS:
            async_task(WORK)


def ring_if_due() -> bool:
    """Wake a worker where an operation is due: its back-off is over, or a bell was lost."""
    due = Operation.objects.filter(state=OperationState.QUEUED, not_before__lte=timezone.now()).exists()
    if due:
        ring()
    return due


def ask_heartbeat() -> None:
    """Have a worker show that it works, unless nobody heard the last calls either."""
    if OrmQ.objects.filter(lock__lte=timezone.now()).count() < 2 * settings.WORKERS:
        async_task(HEARTBEAT)
