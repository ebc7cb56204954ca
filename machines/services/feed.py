"""Telling pages that something changed. Call inside the transaction of the change."""

from machines.models import Change, Machine, Operation


def publish(*topics: str) -> None:
    Change.objects.bulk_create([Change(topic=topic) for topic in topics])


def machine_topics(machine: Machine) -> list[str]:
    topics = [f"machine:{machine.key}"]
    if machine.owner_id:
        topics.append(f"owner:{machine.owner_id}")
    return topics


def operation_topics(operation: Operation) -> list[str]:
    topics = [f"operation:{operation.key}"]
    if operation.batch is not None:
        topics.append(f"batch:{operation.batch.key}")
    return topics
