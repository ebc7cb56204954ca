"""A class with what a test needs in it."""

from accounts.models import Role, User
from classes.models import Enrolment, Invite, LabClass, PoolMachine
from classes.services import classes as class_services
from classes.services import enrolment, invites, pool
from machines.lifecycle import State
from machines.models import Machine, Template
from tests.factories import make_machine, make_template, make_user


def make_class(name: str = "Web basics", *, teacher: User | None = None, template: Template | None = None) -> LabClass:
    teacher = teacher or make_user(role=Role.TEACHER)
    return class_services.create_class(acting_user=teacher, name=name, template=template or make_template(), cores=1, memory_mib=512)


def make_place(lab_class: LabClass, *, state: str = State.STOPPED, **fields) -> PoolMachine:
    """A machine of the class that exists already."""
    number = (lab_class.pool.order_by("-number").values_list("number", flat=True).first() or 0) + 1
    machine = make_machine(f"{lab_class.slug}-{number:02d}", template=lab_class.template, state=state, **fields)
    return PoolMachine.objects.create(lab_class=lab_class, machine=machine, number=number)


def make_invite(lab_class: LabClass, **fields) -> Invite:
    return invites.create_invite(lab_class, acting_user=lab_class.teacher, **fields)


def enrol(lab_class: LabClass, student: User | None = None) -> Enrolment:
    return enrolment.join(make_invite(lab_class), student=student or make_user()).enrolment


def machine_of(enrolment: Enrolment) -> Machine | None:
    place = PoolMachine.objects.filter(enrolment=enrolment).select_related("machine").first()
    return place.machine if place else None


def add_machines(lab_class: LabClass, count: int) -> list[PoolMachine]:
    batch = pool.add_machines(lab_class, count, acting_user=lab_class.teacher)
    return list(PoolMachine.objects.filter(batch=batch).select_related("machine", "lab_class"))
