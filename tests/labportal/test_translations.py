"""Everything people read is there in every language the portal offers."""

import gettext
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import translation
from django.utils.formats import date_format

from accounts.models import User
from tests.factories import make_user

ROOT = Path(settings.BASE_DIR)
OTHERS = [code for code, _name in settings.LANGUAGES if code != "en"]
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w*\}")


def catalogue(folder, code):
    with (folder / code / "LC_MESSAGES" / "django.mo").open("rb") as compiled:
        return gettext.GNUTranslations(compiled)._catalog


@pytest.mark.parametrize("code", OTHERS)
def test_texts_of_the_source_and_what_is_committed_are_in_step(tmp_path, code):
    """`bin/messages` on a copy changes nothing. Its list of what is not translated is empty."""
    for name in subprocess.run(["git", "ls-files", "--cached"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if name.startswith(("tests/", "bench/", "docs/")) and name not in ("tests/__init__.py", "tests/settings.py"):
            continue
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    said = subprocess.run([sys.executable, tmp_path / "bin" / "messages"], capture_output=True, text=True, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert re.search(rf"/{code}/\S+: 0 texts not translated", said.stdout), said.stdout
    anew, committed = (catalogue(folder / "locale", code) for folder in (tmp_path, ROOT))
    for texts in (anew, committed):
        texts.pop("")  # the header has the time
    assert anew.keys() == committed.keys(), "run bin/messages"
    assert anew == committed, "run bin/messages"


@pytest.mark.parametrize("code", OTHERS)
def test_a_translation_keeps_what_is_filled_in(code):
    for source, text in catalogue(ROOT / "locale", code).items():
        if isinstance(source, tuple):
            continue  # msgfmt looks at these: one of two may say the number in words
        assert sorted(set(PLACEHOLDER.findall(text))) == sorted(set(PLACEHOLDER.findall(source))), source
        for tag in ("<strong>", "<code>", "<a ", "</a>", "<kbd>"):
            assert source.count(tag) == text.count(tag), source


@pytest.mark.django_db
def test_pages_speak_the_language_of_the_browser_and_the_one_that_was_chosen():
    client = Client(headers={"accept-language": "de-AT,de;q=0.9,en;q=0.8"})
    with translation.override("en"):  # a request leaves its language to the thread, where the next one sets its own
        assert "Anmelden</h1>" in client.get("/accounts/login/").content.decode()
        client.force_login(make_user("ada"))
        assert 'lang="de"' in client.get("/").content.decode()
        User.objects.update(language="en")
        assert 'lang="en"' in client.get("/").content.decode()


@pytest.mark.parametrize(("code", "day"), [("en", "3 December 2026"), ("de", "3. Dezember 2026")])
def test_days_are_written_as_the_language_does(code, day):
    with translation.override(code):
        assert date_format(date(2026, 12, 3), "DATE_FORMAT") == day
