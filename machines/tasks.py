"""What django-q2 calls. The work is in the operation rows, not in the task."""

from machines.services import executor, heartbeats


def work() -> int:
    """Answer the doorbell: run what is due."""
    return executor.drain()


def heartbeat() -> int:
    """Show that a worker works, not only that its process is there; and answer a bell that may
    hang behind this one."""
    heartbeats.beat("worker")
    return executor.drain()
