"""The demo: accounts and a class that can be made again at any time."""

import json

import pytest
from django.core.management import CommandError, call_command
from django.urls import resolve

from accounts.models import Role, User
from classes.models import Enrolment, LabClass
from classes.services import classes, enrolment, invites
from machines.models import Machine
from tests.factories import make_template

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    return tmp_path


def read(data):
    return json.loads((data / "demo.json").read_text())


def test_its_people_can_sign_in_and_its_invite_gives_a_machine(data, client):
    make_template()
    call_command("demo", verbosity=0)
    demo = read(data)
    assert {account["role"] for account in demo["accounts"]} == {"teacher", "student", "staff"}
    for account in demo["accounts"]:
        assert client.login(username=account["username"], password=account["password"])
        user = User.objects.get(username=account["username"])
        assert user.role == account["role"]
        assert user.is_staff == (account["role"] == Role.STAFF)
        assert account["password"] not in user.password
    invite = invites.by_link(resolve(demo["invite"]).kwargs["token"])
    enrolment.join(invite, student=User.objects.get(role="student"))
    assert Machine.objects.filter(owner__role="student").count() == 1
    assert (data / "demo.json").stat().st_mode & 0o777 == 0o600


def test_made_again_it_changes_nothing(data):
    make_template()
    call_command("demo", verbosity=0)
    before = read(data)
    call_command("demo", verbosity=0)
    assert read(data) == before
    assert (LabClass.objects.count(), Machine.objects.count(), User.objects.count()) == (1, 3, 3)


def test_a_lost_file_means_new_passwords_that_work(data, client):
    make_template()
    call_command("demo", verbosity=0)
    (data / "demo.json").unlink()
    call_command("demo", verbosity=0)
    for account in read(data)["accounts"]:
        assert client.login(username=account["username"], password=account["password"])


def test_what_people_did_to_it_stays(data):
    make_template()
    call_command("demo", verbosity=0)
    lab_class = LabClass.objects.get()
    classes.archive_class(lab_class, acting_user=lab_class.teacher)
    call_command("demo", verbosity=0)
    assert LabClass.objects.get().archived_at is not None
    assert not Enrolment.objects.exists()


def test_without_a_template_it_says_so_and_makes_nothing(data):
    with pytest.raises(CommandError, match="template"):
        call_command("demo", verbosity=0)
    assert not User.objects.exists()
