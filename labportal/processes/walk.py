"""`bin/up --check`: walk the main job once, as people do it, and say what was seen.

A teacher makes a class and an invite; somebody without an account opens the link, signs up, joins, starts
the machine they got, breaks it in the terminal, reverts it and shuts it down. Everything goes through
pages, forms and WebSockets; only the teacher's account is made behind the scenes, and where an address must be
confirmed first, that is done there, too: the mail may go anywhere.
"""

import re
import secrets
import socket
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from allauth.account.models import EmailAddress
from django.utils import timezone
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from accounts.models import Role, User

from .progress import Progress, Step
from .visitor import Page, Surprise, Visitor

FILE = "broken-by-the-check"
STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # a terminal's colours and modes
PROMPTLY, BOOTED = 60.0, 180.0  # seconds within which a state has changed, a guest answers

Answer = TypeVar("Answer")


def walk(url: str, progress: Progress) -> bool:
    """Whether all went as it should. A line is said for each thing seen."""
    progress.say("\nChecking the main job:")
    try:
        _Walk(url, progress).all()
    except (Surprise, WebSocketException, OSError) as surprise:
        progress.say(f"\nThe check failed: {surprise}")
        return False
    progress.say("\nThe check passed.")
    return True


class _Walk:
    def __init__(self, url: str, progress: Progress) -> None:
        self.url, self.progress = url, progress
        self.teacher, self.student = Visitor(url), Visitor(url)
        self.mark = f"{timezone.now():%m%d%H%M%S}"
        self.class_page = self.link = self.machine = self.name = ""

    def all(self) -> None:
        step = self.progress.step
        with step("the teacher signs in"):
            self.sign_in()
        with step("the teacher makes a class with one machine"):
            self.make_class()
        with step("the teacher makes an invite") as now:
            self.invite(now)
        with step("a student without an account signs up by the link and joins"):
            self.join()
        with step("the student has a machine of their own") as now:
            self.state("Off", PROMPTLY, now)
        with step("the student starts it") as now:
            self.student.submit(self.page(), "/start/")
            self.state("On", PROMPTLY, now)
        with step("it answers on SSH") as now:
            now.note = self.banner()
        with step("a command in the terminal comes back") as now:
            now.note = self.run("hostname", until=self.name)[-1]
        with step("the student breaks something"):
            self.run(f"touch {FILE}", "sync", "ls", until=FILE)
        with step("the student reverts it") as now:
            self.student.submit(self.student.get(f"{self.machine}revert/"), "/revert/")
            self.state("Reverting…", PROMPTLY, Step(""), "On")
            self.state("On", PROMPTLY, now)
        with step("it answers again, and what was broken is whole"):
            self.banner()
            if FILE in self.run("ls", "hostname", until=self.name):
                raise Surprise(f"{FILE} is still there")
        with step("the student shuts it down") as now:
            self.student.submit(self.page(), "/stop/")
            self.state("Off", PROMPTLY, now)

    # -- the teacher -----------------------------------------------------------------------

    def sign_in(self) -> None:
        name, password = f"check-{self.mark}", secrets.token_urlsafe(12)
        User.objects.create_user(name, password=password, role=Role.TEACHER)
        page = self.teacher.get("/accounts/login/")
        self.teacher.submit(page, "/login/", login=name, password=password)

    def make_class(self) -> None:
        page = self.teacher.submit(self.teacher.get("/classes/new/"), "/classes/new/", name=f"Check {self.mark}", machines="1")
        self.class_page = urlsplit(page.url).path
        if not re.fullmatch(r"/classes/[0-9a-f-]{36}/", self.class_page):
            raise Surprise(f"making a class led to {page.url}: {page.text[:300]}")

    def invite(self, step: Step) -> None:
        page = self.teacher.submit(self.teacher.get(f"{self.class_page}invites/new/"), "/invites/new/")
        self.link = urlsplit(page.find(r'(https?://[^"<\s]+/join/[^"<\s]+)')).path
        step.note = self.link[:24] + "…"

    # -- the student -----------------------------------------------------------------------

    def join(self) -> None:
        page = self.student.submit(self.student.get(self.link), re.escape(self.link), new="")
        name, password = f"student-{self.mark}", secrets.token_urlsafe(12)
        email = f"{name}@example.org"
        page = self.student.submit(page, "/signup/", username=name, email=email, password1=password)
        if "/confirm-email/" in page.url:
            EmailAddress.objects.filter(email=email).update(verified=True)
            page = self.student.submit(self.student.get("/accounts/login/"), "/login/", login=name, password=password)
        self.machine = page.find(r'href="(/machines/[0-9a-f-]{36}/)"')
        self.name = self.page().find(r'data-announce="([^":]+): ')

    def page(self) -> Page:
        return self.student.get(self.machine)

    def state(self, word: str, seconds: float, step: Step, *also: str) -> None:
        """Wait until the machine's page says this word, or one of the others."""

        def said() -> str:
            step.detail = self.page().find(r'data-announce="[^"]*: ([^"]+)"')
            if step.detail == "Needs attention":
                raise Surprise(f"the machine needs attention: {self.page().text[:600]}")
            return step.detail if step.detail in (word, *also) else ""

        _until(said, seconds, f"the page says “{word}”")

    def banner(self) -> str:
        """What the guest's SSH server says of itself, through the forwarded port the page shows."""
        address = _until(lambda: re.search(r"ssh -p (\d+) \S+@([\w.-]+)", self.page().text), PROMPTLY, "the page shows an SSH command")
        assert address is not None
        where = address[2], int(address[1])

        def said() -> str:
            try:
                with socket.create_connection(where, 3) as guest:
                    guest.settimeout(3)
                    line = guest.recv(100).decode(errors="replace").strip()
            except OSError:
                return ""
            return line if line.startswith("SSH-") else ""

        return _until(said, BOOTED, f"{where} answers with an SSH banner")

    def run(self, *commands: str, until: str) -> list[str]:
        """Type commands into the terminal of the browser and read until a line says `until`; returns the lines. Simulated
        shells know these commands too. A guest that is slow to let the portal in ends the console; then it is opened again."""
        return _until(lambda: self.typed(commands, until), BOOTED, f"the terminal says “{until}”")

    def typed(self, commands: tuple[str, ...], until: str) -> list[str]:
        token = _until(self.ticket, BOOTED, "the terminal can be opened")
        offered = [Subprotocol("labportal.console"), Subprotocol(f"ticket.{token}")]
        address, cookies = self.url.replace("http", "ws", 1) + "/console/terminal/", {"Cookie": self.student.cookie_header}
        seen, end, lines = "", time.monotonic() + PROMPTLY, list[str]()
        try:
            with connect(address, origin=Origin(self.url), subprotocols=offered, additional_headers=cookies) as terminal:
                terminal.send("".join(f"{command}\r" for command in commands).encode())
                while until not in lines:
                    data = terminal.recv(timeout=end - time.monotonic())
                    seen += data if isinstance(data, str) else data.decode(errors="replace")
                    whole = re.split(r"[\r\n]+", STYLE.sub("", seen))[:-1]  # the last one may go on
                    lines = [line.rsplit("$ ", 1)[-1] for line in whole]  # what is typed ahead is answered behind a prompt
        except TimeoutError:
            raise Surprise(f"the terminal did not say “{until}” but {seen[-300:]!r}") from None
        except ConnectionClosed:
            return []
        return lines

    def ticket(self) -> str:
        page = self.page()
        token = page.form(r"/(start|stop|restart|credentials)/$").fields["csrfmiddlewaretoken"]
        try:
            answer = self.student.post(f"{self.machine}console-ticket/", {"kind": "terminal", "csrfmiddlewaretoken": token})
        except Surprise:  # not booted yet
            return ""
        return answer.find(r'"token": "([^"]+)"')


def _until(ask: Callable[[], Answer], seconds: float, what: str) -> Answer:
    """Ask until the answer is true. Raises Surprise after `seconds`."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > end:
            raise Surprise(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.2)
    return answer
