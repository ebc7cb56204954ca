"""Telling pages that something changed. Call inside the transaction of the change."""

from collections.abc import Callable

from machines.models import Change, Machine, Operation

# Apps above add what else a machine's changes concern: its class.
TOPICS: list[Callable[[Machine], list[str]]] = []


def publish(*topics: str) -> None:
    Change.objects.bulk_create([Change(topic=topic) for topic in topics])


def machine_topics(machine: Machine) -> list[str]:
    topics = [f"machine:{machine.key}"]
    if machine.owner_id:
        topics.append(f"owner:{machine.owner_id}")
    for more in TOPICS:
        topics += more(machine)
    return topics


def operation_topics(operation: Operation) -> list[str]:
    topics = [f"operation:{operation.key}"]
    if operation.batch is not None:
        topics.append(f"batch:{operation.batch.key}")
    return topics
