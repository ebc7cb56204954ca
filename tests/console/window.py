"""Windows of a browser that show consoles, and what can be seen in them."""

import re
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore

expect = pytest.importorskip("playwright.sync_api").expect
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe

PICTURES = Path(settings.BASE_DIR) / "tests" / "output" / "console"
SOON = 20_000  # ms


class Window:
    """A page of a signed-in person, with everything the browser complained about."""

    def __init__(self, context, portal):
        self.context, self.portal = context, portal
        self.page = context.new_page()
        self.complaints = []
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.add_init_script(
            "window.violations = [];"
            "document.addEventListener('securitypolicyviolation', ({ violatedDirective, sample }) => window.violations.push(`${violatedDirective} ${sample}`));"
        )

    def open(self, kind, row, query=""):
        self.page.goto(f"{self.portal.url}/machines/{row.key}/{kind}/{query}")
        return self.page

    def connected_to(self, kind, row, query=""):
        self.open(kind, row, query)
        self.connected()
        return self.page

    def connected(self):
        expect(self.page.locator("#stage")).to_have_attribute("data-connection", "open", timeout=SOON)

    def clean(self, *expected):
        """Nothing was refused by the policy, nothing failed."""
        assert self.page.evaluate("window.violations") == []
        assert [text for text in self.complaints if not any(word in text for word in expected)] == []

    def accessible(self):
        """axe finds nothing. The banner above is every page's and looked at there."""
        found = Axe().run(self.page, context={"exclude": [[".banner"]]})
        assert found.violations_count == 0, found.generate_report()

    def picture(self, name):
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png")


@contextmanager
def windows(chromium, portal, user):
    """Opens windows in which `user` is signed in: make(width=…, dark=…)."""
    session = SessionStore()
    session.update({SESSION_KEY: str(user.pk), BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0], HASH_SESSION_KEY: user.get_session_auth_hash()})
    session.save()
    contexts = []

    def make(*, width=1440, height=900, dark=False, touch=False):
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", has_touch=touch, is_mobile=touch)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session.session_key, "url": portal.url}])
        contexts.append(context)
        return Window(context, portal)

    yield make
    for context in contexts:
        context.close()


def colours(page):
    """How many colours the canvas shows: a blank one has one."""
    return page.evaluate(
        """() => {
            const canvas = document.querySelector("#screen canvas");
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return new Set(new Uint32Array(data.buffer)).size;
        }"""
    )


def size_in(page):
    """Rows and columns as the guest's last "stty size" told them."""
    rows = page.locator("#terminal .xterm-rows").inner_text().replace("\xa0", " ").splitlines()
    return [tuple(map(int, row.split())) for row in rows if re.fullmatch(r"\s*\d+ \d+\s*", row)][-1]


def says(page, text):
    expect(page.locator("#terminal .xterm-rows")).to_contain_text(text, timeout=SOON)
