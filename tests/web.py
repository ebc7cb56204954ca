"""The web process of an installation, on the test's database."""

import os
import re
import subprocess
import sys
import time

from django.conf import settings


def environment(**more):
    return {**os.environ, "DJANGO_SETTINGS_MODULE": "labportal.settings", **more}


def manage(*arguments, env):
    subprocess.run([sys.executable, "manage.py", *arguments], cwd=settings.BASE_DIR, env=environment(**env), check=True, stdout=subprocess.DEVNULL)


def wait(met, say=lambda: "", seconds=30):
    """Poll for what another process does."""
    deadline = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < deadline, say()
        time.sleep(0.05)
    return found


class WebProcess:
    """May be killed and started again on the same port."""

    def __init__(self, folder, static, **more):
        self.log = folder / "web.log"
        self._env = environment(DATABASE_URL=f"sqlite:///{folder}/portal.sqlite3", STATIC_ROOT=str(static), DATA_DIR=str(folder), **more)
        self.url, self._port = "", "0"

    def start(self):
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "web", "--port", self._port], cwd=settings.BASE_DIR, env=self._env, stdout=log, stderr=log
            )
        self.url, self._port = wait(lambda: re.search(r"Listening on (http://\S+?:(\d+))", self.log.read_text()), self.log.read_text).groups()

    def kill(self):
        self._process.kill()
        self._process.wait()
