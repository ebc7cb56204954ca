"""The main job in a browser, on a real guest, of a portal that was started as the README says.

With UPDATE_PICTURES=1 the pictures of the README are made anew; otherwise they go to tests/output.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import chromium
from tests.e2e.portal import ROOT, RunningPortal, until

playwright_api = pytest.importorskip("playwright.sync_api")
expect = playwright_api.expect
pytestmark = [pytest.mark.guest, pytest.mark.browser]

PICTURES = ROOT / "docs" / "img" if os.environ.get("UPDATE_PICTURES") else ROOT / "tests" / "output"
TRUE_WITHIN = 2_000  # ms in which a page shows what the database knows
SOON = 30_000  # ms
BOOTED = 180  # seconds

# How often each colour is on the canvas; a blank one has a single colour.
COLOURS = """() => {
    const canvas = document.querySelector("#screen canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const found = new Map();
    for (const pixel of new Uint32Array(data.buffer)) found.set(pixel, (found.get(pixel) ?? 0) + 1);
    return [...found.values()].sort((one, other) => other - one);
}"""


# What the Content-Security-Policy refused, with the element it was about.
VIOLATIONS = """document.addEventListener("securitypolicyviolation", ({ violatedDirective, target }) =>
    console.error(`${violatedDirective}: ${target.outerHTML?.slice(0, 300)}`))"""


class Person:
    """A browser window of one person, with everything it complained about."""

    def __init__(self, browser: Any, portal: RunningPortal, name: str) -> None:
        self.portal, self.name = portal, name
        self.context = browser.new_context(viewport={"width": 1280, "height": 800})
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(f"{message.text} {message.location}") if message.type == "error" else None)
        self.page.add_init_script(VIOLATIONS)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def picture(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        # Playwright hides the caret by style attributes, which htmx then copies against the policy.
        self.page.screenshot(path=PICTURES / f"{name}.png", caret="initial")

    def mark(self) -> None:
        """From here on the page must not be loaded anew."""
        self.page.evaluate("window.notReloaded = true")

    def not_reloaded(self) -> None:
        assert self.page.evaluate("window.notReloaded === true")

    def sees(self, word: str, timeout: int = SOON) -> None:
        expect(self.page.locator("#machine [data-state]").first).to_have_text(re.compile(rf"^{word}"), timeout=timeout)

    def connected(self) -> None:
        expect(self.page.locator("#stage")).to_have_attribute("data-connection", "open", timeout=SOON)

    def types(self, text: str, answer: str) -> None:
        """In the terminal, until it says `answer`."""
        self.page.keyboard.type(f"{text}\n")
        expect(self.page.locator("#terminal .xterm-rows")).to_contain_text(answer, timeout=SOON)


@pytest.fixture(scope="module")
def portal() -> Iterator[RunningPortal]:
    portal = RunningPortal()
    portal.start()
    yield portal
    portal.clear()


@pytest.fixture
def people(portal: RunningPortal) -> Iterator[tuple[Person, Person]]:
    """The demo's teacher, and somebody without an account."""
    with chromium() as browser:
        teacher, student = Person(browser, portal, "teacher"), Person(browser, portal, "student")
        yield teacher, student
        for person in (teacher, student):
            person.context.close()


def copy_invite(teacher: Person) -> str:
    page, account = teacher.page, teacher.portal.accounts["teacher"]
    page.goto(f"{teacher.portal.url}/accounts/login/")
    page.locator("[name=login]").fill(account["username"])
    page.locator("[name=password]").fill(account["password"])
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.goto(f"{teacher.portal.url}/classes/")
    page.get_by_role("link", name="Linux basics").click()
    page.locator(".invite [data-copy]").first.click()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(f"{teacher.portal.url}/join/")
    return str(link)


def join(student: Person, link: str) -> str:
    """Returns the path of the machine the student got."""
    page = student.page
    page.goto(link)
    page.get_by_role("button", name="Sign up and join").click()
    for field, value in {"username": "ada", "email": "ada@example.org", "password1": "correct horse battery"}.items():
        page.locator(f"[name={field}]").fill(value)
    page.locator("form[action*=signup] [type=submit]").click()
    page.locator(".machine-name a").click()
    page.wait_for_url("**/machines/*/")
    return str(page.url).removeprefix(student.portal.url)


def state_of(portal: RunningPortal, name: str) -> str:
    ((state,),) = portal.rows("SELECT state FROM machines_machine WHERE name = ?", name)
    return str(state)


def booted(portal: RunningPortal, name: str) -> bool:
    return bool(portal.rows("SELECT 1 FROM machines_machine WHERE name = ? AND state = 'running' AND answering_since IS NOT NULL", name))


def test_from_an_invite_to_a_machine_that_is_whole_again(portal: RunningPortal, people: tuple[Person, Person]) -> None:
    teacher, student = people
    link = copy_invite(teacher)
    path = join(student, link)
    page = student.page
    name = page.locator("h1").inner_text()

    # A teacher sees the class change without doing anything.
    expect(teacher.page.locator("#content")).to_contain_text("ada", timeout=SOON)
    teacher.picture("class")

    student.sees("Off")
    student.mark()
    page.get_by_role("button", name="Start").click()
    until(lambda: state_of(portal, name) == "running", 60, "the machine is on")
    student.sees("On", TRUE_WITHIN)
    student.not_reloaded()

    # The screen, from the first moment of the boot to the login.
    page.goto(f"{portal.url}{path}screen/")
    student.connected()
    until(lambda: booted(portal, name), BOOTED, "the guest has booted")
    until(lambda: len(page.evaluate(COLOURS)) > 1, 30, "the screen shows something")
    dark, *bright = page.evaluate(COLOURS)
    assert 0.001 < sum(bright) / (dark + sum(bright)) < 0.5, "text on a dark screen"
    student.picture("screen")
    before = page.evaluate(COLOURS)
    page.locator("#screen canvas").focus()
    page.keyboard.type("somebody", delay=20)
    until(lambda: page.evaluate(COLOURS) != before, 30, "what is typed appears on the screen")

    # The terminal: what is typed comes back; something is broken.
    page.goto(f"{portal.url}{path}terminal/")
    student.connected()
    student.types("echo answer-$((6 * 7))", "answer-42")
    student.types("touch broken && sync && echo it-is-$(ls broken)", "it-is-broken")
    student.picture("terminal")

    # Revert asks first, and makes it whole.
    page.goto(f"{portal.url}{path}")
    student.mark()
    page.locator("#menu-machine summary").click()
    page.locator("#menu-machine").get_by_role("link", name="Revert").click()
    expect(page.locator("#dialog")).to_contain_text("is lost")
    page.locator("#dialog").get_by_role("button", name="Revert").click()
    until(lambda: portal.rows("SELECT 1 FROM machines_operation WHERE kind = 'revert' AND state = 'succeeded'"), 120, "the machine is reverted")
    student.sees("On", TRUE_WITHIN)
    student.not_reloaded()
    until(lambda: booted(portal, name), BOOTED, "the guest has booted again")
    page.goto(f"{portal.url}{path}terminal/")
    student.connected()
    student.types("test -e broken && echo still-$((1)) || echo whole-$((2))", "whole-2")

    # Shut down by the guest itself.
    page.goto(f"{portal.url}{path}")
    page.locator("#menu-machine summary").click()
    page.locator("#menu-machine").get_by_role("button", name="Shut down").click()
    until(lambda: state_of(portal, name) == "stopped", 60, "the machine is off")
    student.sees("Off", TRUE_WITHIN)

    for person in people:
        assert not person.complaints, "\n".join(person.complaints)


def test_the_pictures_of_the_readme_are_there() -> None:
    for name in ("class", "screen"):
        assert Path(ROOT / "docs" / "img" / f"{name}.png").stat().st_size > 10_000
