"""One wish for many machines of a class: start all, shut down the selected."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import User
from accounts.services import audit
from classes.models import LabClass, PoolMachine
from machines.lifecycle import Kind
from machines.models import Batch, Operation, Priority
from machines.services import requests
from machines.services.refusal import Refused

VERBS: dict[Kind, Callable[..., Operation]] = {
    Kind.START: requests.start,
    Kind.STOP: requests.stop,
    Kind.FORCE_OFF: requests.force_off,
    Kind.RESTART: requests.restart,
    Kind.REVERT: requests.revert,
}


@dataclass(frozen=True)
class Outcome:
    """`batch` is None where nothing was begun. `skipped`: machine name and why."""

    batch: Batch | None
    begun: int
    skipped: list[tuple[str, str]] = field(default_factory=list)


def ask_all(lab_class: LabClass, places: Sequence[PoolMachine], kind: Kind, *, acting_user: User) -> Outcome:
    """Ask for `kind` on each of these machines, as one batch at bulk priority. Those that cannot
    are skipped. Each machine is its own short transaction: a long one would hold up everybody."""
    batch = Batch.objects.create(title=_title(lab_class, kind, len(places)), requested_by=acting_user)
    begun, skipped = 0, []
    for place in places:
        try:
            operation = VERBS[kind](place.machine, acting_user=acting_user, batch=batch, priority=Priority.BULK)
        except Refused as refused:
            skipped.append((place.machine.name, refused.message))
        else:
            if operation.batch_id == batch.pk:
                begun += 1
            else:
                skipped.append((place.machine.name, _("%(machine)s is at it already.") % {"machine": place.machine}))
    if not begun:
        batch.delete()
        return Outcome(None, 0, skipped)
    audit.record(f"class.{kind}", acting_user=acting_user, target=lab_class, machines=begun, skipped=len(skipped), batch=str(batch.key))
    return Outcome(batch, begun, skipped)


def _title(lab_class: LabClass, kind: Kind, count: int) -> str:
    words = {"class": lab_class, "count": count}
    match kind:
        case Kind.START:
            return ngettext("Start %(count)d machine of %(class)s", "Start %(count)d machines of %(class)s", count) % words
        case Kind.STOP:
            return ngettext("Shut down %(count)d machine of %(class)s", "Shut down %(count)d machines of %(class)s", count) % words
        case Kind.FORCE_OFF:
            return ngettext("Force off %(count)d machine of %(class)s", "Force off %(count)d machines of %(class)s", count) % words
        case Kind.RESTART:
            return ngettext("Restart %(count)d machine of %(class)s", "Restart %(count)d machines of %(class)s", count) % words
    return ngettext("Revert %(count)d machine of %(class)s", "Revert %(count)d machines of %(class)s", count) % words
