"""Accounts of every role and a class with machines, for whoever starts the portal to look at it.

May be made again at any time: what is there stays as people left it. Passwords are random and kept
only here, in `demo.json` of the data folder, which its owner alone may read; the database has hashes.
"""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from accounts.models import Role, User
from accounts.services.roles import set_role
from classes import selectors
from classes.models import LabClass
from classes.services import classes, invites
from machines.models import Template

CLASS_NAME = "Linux basics"
MACHINES = 3


class NoTemplate(Exception):
    """No cluster offers a template to make machines from."""


@dataclass(frozen=True, slots=True)
class Account:
    role: str
    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Demo:
    accounts: list[Account]
    class_key: str
    invite: str  # the path of its link, empty where the class was archived


def demo_file() -> Path:
    return Path(settings.DATA_DIR) / "demo.json"


def make_demo() -> Demo:
    """Make what is missing of it, and write the file. Raises NoTemplate."""
    known = _known_passwords()
    with transaction.atomic():
        accounts = [_account(role, known) for role in (Role.TEACHER, Role.STUDENT, Role.STAFF)]
        teacher = User.objects.get(username=accounts[0].username)
        lab_class = _lab_class(teacher)
        demo = Demo(accounts, str(lab_class.key), _link(lab_class, teacher))
        _write(demo)
    return demo


def _account(role: Role, known: dict[str, str]) -> Account:
    """With the password of the file, a new one where the file does not know it."""
    user, made = User.objects.get_or_create(username=str(role.value), defaults={"first_name": "Demo", "last_name": str(role.label)})
    if made:
        set_role(user, role, acting_user=None)
    password = known.get(user.username, "")
    if not password:
        password = secrets.token_urlsafe(9)
        user.set_password(password)
        user.save(update_fields=["password"])
    return Account(role.value, user.username, password)


def _known_passwords() -> dict[str, str]:
    try:
        written = json.loads(demo_file().read_text())
    except FileNotFoundError:
        return {}
    names = set(User.objects.values_list("username", flat=True).filter(username__in=[role.value for role in Role]))
    return {account["username"]: account["password"] for account in written["accounts"] if account["username"] in names}


def _lab_class(teacher: User) -> LabClass:
    found = LabClass.objects.filter(teacher=teacher).order_by("archived_at", "pk").first()
    if found is not None:
        return found
    template = Template.objects.filter(active=True, present=True).order_by("pk").first()
    if template is None:
        raise NoTemplate
    return classes.create_class(
        acting_user=teacher,
        name=CLASS_NAME,
        template=template,
        cores=template.cores,
        memory_mib=template.memory_mib,
        disk_gib=template.disk_gib,
        machines=MACHINES,
    )


def _link(lab_class: LabClass, teacher: User) -> str:
    """The path of an invite that is open; empty where the class is archived."""
    if lab_class.archived_at is not None:
        return ""
    still_open = [invite for invite in selectors.open_invites(lab_class) if invites.why_closed(invite) is None]
    invite = still_open[0] if still_open else invites.create_invite(lab_class, acting_user=teacher)
    return reverse("classes:join", args=[invites.link_token(invite)])


def _write(demo: Demo) -> None:
    """In one go, and readable by nobody else at any moment."""
    path = demo_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(demo), file, indent=2)
    beside.replace(path)
