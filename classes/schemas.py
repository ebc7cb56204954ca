"""How the API says classes, who is in them and what they have."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from ninja import Field, Schema

from accounts.rest import Id, Word
from machines.lifecycle import State
from machines.models import Batch

from .models import Enrolment, Invite, LabClass, PoolMachine
from .selectors import Counts, Progress
from .services.invites import spoken, why_closed
from .services.pool import MOST_AT_ONCE

Count = Annotated[int, Field(ge=1, le=MOST_AT_ONCE)]


class CountsOut(Schema):
    """`ready` machines are off or on with nothing at work on them; `waiting` students have no machine yet."""

    machines: int
    ready: int
    failed: int
    students: int
    waiting: int

    @classmethod
    def of(cls, counts: Counts) -> "CountsOut":
        return cls(machines=counts.machines, ready=counts.ready, failed=counts.failed, students=counts.students, waiting=counts.waiting)


class ClassOut(Schema):
    """`counts` are for those who run the class."""

    key: UUID
    name: str
    teacher: str
    template: str
    cores: int
    memory_mib: int
    disk_gib: int | None
    archived_at: datetime | None
    runs: bool
    counts: CountsOut | None

    @classmethod
    def of(cls, lab_class: LabClass, counts: Counts | None) -> "ClassOut":
        return cls(
            key=lab_class.key,
            name=lab_class.name,
            teacher=lab_class.teacher.get_username(),
            template=lab_class.template.name,
            cores=lab_class.cores,
            memory_mib=lab_class.memory_mib,
            disk_gib=lab_class.disk_gib,
            archived_at=lab_class.archived_at,
            runs=counts is not None,
            counts=CountsOut.of(counts) if counts else None,
        )


class Classes(Schema):
    items: list[ClassOut]
    next: int | None


class ClassIn(Schema):
    """`tier`: the size of its machines, by default as the template suggests. `machines`: so many are begun at once."""

    name: Word
    template: Id
    tier: Id | None = None
    machines: Annotated[int, Field(ge=0, le=MOST_AT_ONCE)] = 0


class PlaceOut(Schema):
    """A machine of the class and who has it; nobody: it is free."""

    machine: UUID
    name: str
    state: State
    student: str | None

    @classmethod
    def of(cls, place: PoolMachine) -> "PlaceOut":
        student = place.enrolment.student.get_username() if place.enrolment else None
        return cls(machine=place.machine.key, name=place.machine.name, state=State(place.machine.state), student=student)


class Places(Schema):
    items: list[PlaceOut]
    next: int | None


class StudentOut(Schema):
    """`machine` is empty while the student waits for one."""

    username: str
    name: str
    joined_at: datetime
    machine: UUID | None

    @classmethod
    def of(cls, enrolment: Enrolment) -> "StudentOut":
        place = getattr(enrolment, "place", None)
        student = enrolment.student
        return cls(username=student.get_username(), name=student.get_full_name(), joined_at=enrolment.joined_at, machine=place.machine.key if place else None)


class Students(Schema):
    items: list[StudentOut]
    next: int | None


class MachinesIn(Schema):
    count: Count


class InviteLasts(StrEnum):
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    EVER = ""


class InviteIn(Schema):
    """`max_uses`: for so many people; empty: for as many as have the link."""

    lasts: InviteLasts = InviteLasts.WEEK
    max_uses: Annotated[int, Field(ge=1, le=10_000)] | None = None


class InviteOut(Schema):
    """Whoever has the link or types the code can join the class."""

    id: int
    code: str
    link: str
    uses: int
    max_uses: int | None
    expires_at: datetime | None
    open: bool

    @classmethod
    def of(cls, invite: Invite, link: str) -> "InviteOut":
        return cls(
            id=invite.pk,
            code=spoken(invite),
            link=link,
            uses=invite.uses,
            max_uses=invite.max_uses,
            expires_at=invite.expires_at,
            open=why_closed(invite) is None,
        )


class Invites(Schema):
    items: list[InviteOut]
    next: int | None


class BulkVerb(StrEnum):
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    FORCE_OFF = "force-off"
    REVERT = "revert"


class BulkIn(Schema):
    """`machines`: these alone; empty: all of the class."""

    machines: Annotated[list[UUID], Field(max_length=500)] | None = None


class Skipped(Schema):
    """`machine` is its name; where the class has no such machine, the key that was sent."""

    machine: str
    why: str


class BulkOut(Schema):
    """`batch` is what to follow; empty where nothing was begun."""

    batch: UUID | None
    begun: int
    skipped: list[Skipped]


class BatchOut(Schema):
    key: UUID
    title: str
    ready: int
    working: int
    waiting: int
    failed: int
    cancelled: int

    @classmethod
    def of(cls, batch: Batch, progress: Progress) -> "BatchOut":
        return cls(
            key=batch.key,
            title=batch.title,
            ready=progress.ready,
            working=progress.working,
            waiting=progress.waiting,
            failed=progress.failed,
            cancelled=progress.cancelled,
        )
