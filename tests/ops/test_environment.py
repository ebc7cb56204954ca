"""`.env.example` and settings.py name the same variables, and a wrong value is told in one sentence."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from labportal import settings_sso

ROOT = Path(__file__).resolve().parent.parent.parent
SETTINGS = "".join(path.read_text() for path in sorted((ROOT / "labportal").glob("settings*.py")))
EXAMPLE = (ROOT / ".env.example").read_text()

KEYS = {
    "SECRET_KEY": "x" * 50,
    "FIELD_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "PORTAL_ID": "7e57ab1e-0000-4000-8000-000000000000",
}


def manage(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """manage.py with nothing but these variables set; its working directory has no .env."""
    empty = tmp_path / "env"
    empty.write_text("")
    environment = {"PATH": os.environ["PATH"], "LABPORTAL_ENV_FILE": str(empty), "DATA_DIR": str(tmp_path)} | variables
    return subprocess.run([sys.executable, str(ROOT / "manage.py"), *arguments], env=environment, capture_output=True, text=True, timeout=60)


def read_by_settings() -> set[str]:
    named = set(re.findall(r'(?:env\.\w+\(|_read\(|_required\(|\w+\(env,)\s*"([A-Z_]+)"', SETTINGS))
    return named | {f"OIDC_{key.upper()}" for key in settings_sso.OIDC_KEYS}


def test_every_variable_is_explained() -> None:
    named = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE, re.MULTILINE))
    assert named == read_by_settings()


def test_every_variable_has_a_comment_above_it() -> None:
    lines = EXAMPLE.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"#?[A-Z_]+=", line):
            assert lines[number - 1].startswith("#"), line


def test_a_full_environment_starts(tmp_path: Path) -> None:
    answer = manage(tmp_path, "check", **KEYS)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("missing", sorted(KEYS))
def test_a_missing_variable_is_told_in_one_sentence(tmp_path: Path, missing: str) -> None:
    answer = manage(tmp_path, "check", **{name: value for name, value in KEYS.items() if name != missing})
    assert answer.returncode != 0
    assert answer.stderr.startswith(f"labportal cannot start: {missing} is not set.")
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FIELD_KEYS", "no-key"),
        ("WORKERS", "many"),
        ("WATCH_SECONDS", "soon"),
        ("EMAIL_VERIFICATION", "perhaps"),
        ("EMAIL_URL", "pigeon://roof"),
        ("DATABASE_URL", "paper://drawer"),
        ("LABPORTAL_ENV_FILE", "/nowhere/env"),
        ("LDAP_URIS", "ldaps://gr\udcfcn.example.org"),  # ü as Latin-1 has it
    ],
)
def test_a_wrong_variable_is_told_in_one_sentence(tmp_path: Path, name: str, value: str) -> None:
    answer = manage(tmp_path, "check", **KEYS | {name: value})
    assert answer.returncode != 0
    assert answer.stderr.startswith("labportal cannot start: ")
    assert name in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_value_that_begins_with_a_dollar_sign_is_taken_as_it_stands(tmp_path: Path) -> None:
    told = KEYS | {"SECRET_KEY": "$HOME" + "x" * 50, "HOME": "/root", "PORTAL_NAME": "$$"}
    answer = manage(tmp_path, "shell", "-v", "0", "-c", "from django.conf import settings as s; print(s.SECRET_KEY[:6], s.PORTAL_NAME, s.DEBUG)", **told)
    assert answer.stdout.strip() == "$HOMEx $$ False", answer.stderr
