"""Making, changing and putting away classes."""

from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.services import audit
from classes.models import LabClass
from machines.models import Template
from machines.services.feed import publish
from machines.services.refusal import Refused

from . import directory, pool

_SLUG_LENGTH = 24  # machine names stay short enough to be read in a table


def create_class(
    *,
    acting_user: User,
    name: str,
    template: Template,
    cores: int,
    memory_mib: int,
    disk_gib: int | None = None,
    directory_group: str = "",
    teacher: User | None = None,
    machines: int = 0,
) -> LabClass:
    """A class of `teacher` (else of `acting_user`), with `machines` machines begun for it, and with everybody of
    `directory_group` in it. Raises Refused for what `pool.add_machines` refuses; nothing is made then."""
    teacher = teacher or acting_user
    with transaction.atomic():
        lab_class = _insert(
            LabClass(name=name, teacher=teacher, template=template, cores=cores, memory_mib=memory_mib, disk_gib=disk_gib, directory_group=directory_group),
        )
        audit.record("class.create", acting_user=acting_user, target=lab_class, template=template.name)
        publish(f"owner:{lab_class.teacher_id}")
        if machines:
            pool.add_machines(lab_class, machines, acting_user=acting_user)
    if directory_group:
        directory.follow_group(lab_class)
    return lab_class


def edit_class(
    lab_class: LabClass,
    *,
    acting_user: User,
    name: str,
    template: Template,
    cores: int,
    memory_mib: int,
    disk_gib: int | None,
    directory_group: str | None = None,
) -> None:
    """New name, template and size. They hold for machines made from now on; the slug stays, as
    machines are named by it. `directory_group`: whose people are in the class, "" for none, None: as it is."""
    wanted: dict[str, Any] = {"name": name, "template_id": template.pk, "cores": cores, "memory_mib": memory_mib, "disk_gib": disk_gib}
    if directory_group is not None:
        wanted["directory_group"] = directory_group
    with transaction.atomic():
        pool.lock(lab_class)
        changed = {field: value for field, value in wanted.items() if getattr(lab_class, field) != value}
        if not changed:
            return
        for field, value in changed.items():
            setattr(lab_class, field, value)
        lab_class.save(update_fields=list(changed))
        audit.record("class.edit", acting_user=acting_user, target=lab_class, **changed)
        publish(pool.topic(lab_class))
    if "directory_group" in changed:
        directory.follow_group(lab_class)


def archive_class(lab_class: LabClass, *, acting_user: User) -> None:
    """Nobody joins any more and no machine is made or shared out. Nothing is deleted."""
    with transaction.atomic():
        pool.lock(lab_class)
        if lab_class.archived_at is not None:
            return
        lab_class.archived_at = timezone.now()
        lab_class.save(update_fields=["archived_at"])
        audit.record("class.archive", acting_user=acting_user, target=lab_class)
        publish(pool.topic(lab_class))


def restore_class(lab_class: LabClass, *, acting_user: User) -> None:
    with transaction.atomic():
        pool.lock(lab_class)
        if lab_class.archived_at is None:
            return
        lab_class.archived_at = None
        lab_class.save(update_fields=["archived_at"])
        audit.record("class.restore", acting_user=acting_user, target=lab_class)
        pool.fill_waiting_list(lab_class, acting_user=acting_user)
        publish(pool.topic(lab_class))


def hand_over(lab_class: LabClass, teacher: User, *, acting_user: User) -> None:
    """Give the class to another teacher; the one before sees it and its machines no more."""
    with transaction.atomic():
        pool.lock(lab_class)
        before = lab_class.teacher
        if before == teacher:
            return
        lab_class.teacher = teacher
        lab_class.save(update_fields=["teacher"])
        audit.record("class.hand_over", acting_user=acting_user, target=lab_class, before=before.get_username(), after=teacher.get_username())
        publish(pool.topic(lab_class), f"owner:{before.pk}", f"owner:{teacher.pk}")


def _insert(lab_class: LabClass) -> LabClass:
    """Save with the first slug that is not taken. Machines carry it in their host names, which
    know letters, digits and dashes alone."""
    stem = _shortened(slugify(lab_class.name).replace("_", "-")).strip("-") or "class"
    taken = set(LabClass.objects.filter(slug__startswith=stem).values_list("slug", flat=True))
    candidates = (slug for slug in [stem, *(f"{stem}-{number}" for number in range(2, 1000))] if slug not in taken)
    for slug in candidates:
        lab_class.slug = slug
        try:
            with transaction.atomic():
                lab_class.save(force_insert=True)
        except IntegrityError:  # somebody took it since we looked
            continue
        return lab_class
    raise Refused(_("There are too many classes of this name. Choose another."), code="name_taken")


def _shortened(slug: str) -> str:
    """Whole words, as many as there is room for."""
    if len(slug) <= _SLUG_LENGTH:
        return slug
    words = slug[: _SLUG_LENGTH + 1].rpartition("-")[0]
    return words or slug[:_SLUG_LENGTH]
