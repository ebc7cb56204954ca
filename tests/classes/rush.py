"""Many people join one class at the same moment, each in a thread with a connection of its own.

As a program it does so on the database of the environment, made anew, and prints what came of it:
tests of an SQLite file need one, as their own database is in memory.
"""

import json
import sys
import threading
from collections.abc import Callable

from django.db import connections

STUDENTS = 12


def at_once(calls: list[Callable[[], object]]) -> list[object]:
    """What each call, all of them set off together, returned or raised."""
    gate, results = threading.Barrier(len(calls)), []

    def run(call: Callable[[], object]) -> None:
        try:
            gate.wait(30)
            results.append(call())
        except Exception as error:
            results.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def rush(*, machines: int, max_uses: int | None) -> dict[str, object]:
    """STUDENTS people join a class of so many machines; each clicks twice."""
    from classes.models import Enrolment, Invite, PoolMachine
    from classes.services import enrolment
    from machines.models import Machine
    from machines.services.refusal import Refused
    from tests.classes.rows import make_class, make_invite, make_place
    from tests.factories import make_user

    lab_class = make_class()
    for _ in range(machines):
        make_place(lab_class)
    invite = make_invite(lab_class, max_uses=max_uses)
    students = [make_user() for _ in range(STUDENTS)]
    results = at_once([lambda student=student: enrolment.join(Invite.objects.get(pk=invite.pk), student=student) for student in students * 2])
    return {
        "answers": len(results),
        "new": sum(isinstance(one, enrolment.Joined) and one.new for one in results),
        "errors": [repr(one) for one in results if isinstance(one, Exception) and not isinstance(one, Refused)],
        "refused": sorted({one.code for one in results if isinstance(one, Refused)}),
        "enrolled": Enrolment.objects.count(),
        "uses": Invite.objects.get(pk=invite.pk).uses,
        "given": PoolMachine.objects.filter(enrolment__isnull=False).count(),
        "owners": Machine.objects.exclude(owner=None).values("owner").distinct().count(),
        "waiting": Enrolment.objects.filter(place=None).count(),
    }


if __name__ == "__main__":
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    print(json.dumps(rush(machines=int(sys.argv[1]), max_uses=int(sys.argv[2]) or None)))
