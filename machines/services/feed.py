"""Telling pages that something changed. Call inside the transaction of the change."""

from machines.models import Change, Machine


def publish(*topics: str) -> None:
    Change.objects.bulk_create([Change(topic=topic) for topic in topics])


def machine_topics(machine: Machine) -> list[str]:
    topics = [f"machine:{machine.key}"]
    if machine.owner_id:
        topics.append(f"owner:{machine.owner_id}")
    return topics
