"""Everybody joins in the same second: nobody shares a machine, nobody is lost, no invite is used too often."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from tests.classes.rush import STUDENTS, rush

ROOT = Path(__file__).resolve().parent.parent.parent


def on_a_file(machines: int, max_uses: int | None, folder: Path) -> dict[str, object]:
    environment = os.environ | {"DATABASE_URL": f"sqlite:///{folder / 'rush.sqlite3'}", "DJANGO_SETTINGS_MODULE": "tests.settings"}
    environment.pop("TEST_DATABASE_URL", None)
    argv = [sys.executable, "-m", "tests.classes.rush", str(machines), str(max_uses or 0)]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_few_machines(result: dict[str, object]) -> None:
    assert result == {
        "answers": 2 * STUDENTS,
        "new": STUDENTS,
        "errors": [],
        "refused": [],
        "enrolled": STUDENTS,
        "uses": STUDENTS,
        "given": 7,
        "owners": 7,
        "waiting": STUDENTS - 7,
    }


def check_few_uses(result: dict[str, object]) -> None:
    assert result["errors"] == []
    assert result["refused"] == ["used_up"]
    assert result["new"] == result["uses"] == result["enrolled"] == result["given"] == result["owners"] == 5


def test_two_never_get_the_same_machine_in_an_sqlite_file(tmp_path):
    check_few_machines(on_a_file(7, None, tmp_path))


def test_an_invite_is_never_used_too_often_in_an_sqlite_file(tmp_path):
    check_few_uses(on_a_file(20, 5, tmp_path))


@pytest.fixture
def postgres(transactional_db):
    if connection.vendor != "postgresql":
        pytest.skip("TEST_DATABASE_URL names no PostgreSQL")


@pytest.mark.postgres
def test_two_never_get_the_same_machine_on_postgresql(postgres):
    check_few_machines(rush(machines=7, max_uses=None))


@pytest.mark.postgres
def test_an_invite_is_never_used_too_often_on_postgresql(postgres):
    check_few_uses(rush(machines=20, max_uses=5))
