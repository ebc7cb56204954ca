"""The commands of labportal itself."""

import json
from io import StringIO

import pytest
from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from machines.models import Cluster, Machine
from tests.factories import make_cluster, make_machine


def say(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue().strip()


def test_a_field_key_is_a_fernet_key_and_never_the_same() -> None:
    keys = {say("field_key"), say("field_key")}
    assert len(keys) == 2
    for key in keys:
        Fernet(key)


@pytest.mark.django_db
def test_after_rotation_the_old_key_may_go(settings: object, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = make_cluster(secret="of the cluster")
    machine = make_machine(cluster=cluster, password="of the machine", ssh_private_key="a key")
    old = list(settings.FIELD_KEYS)  # type: ignore[attr-defined]
    new = Fernet.generate_key().decode()
    settings.FIELD_KEYS = [new, *old]  # type: ignore[attr-defined]
    monkeypatch.setattr("labportal.management.commands.rotate_field_keys.BATCH", 2)
    for _ in range(4):
        make_machine(cluster=cluster, password="of another")
    told = say("rotate_field_keys")
    assert "machines: 5" in told
    settings.FIELD_KEYS = [new]  # type: ignore[attr-defined]
    machine = Machine.objects.get(pk=machine.pk)
    assert (machine.password, machine.ssh_private_key) == ("of the machine", "a key")
    assert Cluster.objects.get(pk=cluster.pk).secret == "of the cluster"
    settings.FIELD_KEYS = old  # type: ignore[attr-defined]
    with pytest.raises(InvalidToken):
        Machine.objects.get(pk=machine.pk)


@pytest.mark.django_db
def test_secrets_are_not_readable_in_the_database() -> None:
    machine = make_machine(password="of the machine")
    with connection.cursor() as cursor:
        cursor.execute("SELECT password FROM machines_machine WHERE id = %s", [machine.pk])
        (stored,) = cursor.fetchone()
    assert "of the machine" not in stored
    assert json.dumps(settings.FIELD_KEYS[0]) not in stored
