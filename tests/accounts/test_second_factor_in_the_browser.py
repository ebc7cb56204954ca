"""The second factor in Chromium: apps, keys and passkeys of a virtual device, and how its pages look."""

import re
import time

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value

from accounts.hashers import PBKDF2InTurn
from accounts.models import Role, RolePolicy
from tests.factories import PASSWORD, make_user

playwright_api = pytest.importorskip("playwright.sync_api")
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
expect = playwright_api.expect
pytestmark = pytest.mark.browser

SOON = 15_000  # ms
VIOLATIONS = """
window.violations = [];
document.addEventListener('securitypolicyviolation', ({ violatedDirective, sample }) => window.violations.push(`${violatedDirective} ${sample}`));
"""


def code_of(secret, later=0):
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30 + later))


class Visitor:
    """A browser with a device for keys, at the address keys are made for."""

    def __init__(self, chromium, portal, *, width=1440, dark=False):
        self.context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", base_url=at_home(portal.url))
        self.complaints, self.violations = [], []
        self.page = self.context.new_page()
        self.page.set_default_timeout(SOON)
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.add_init_script(VIOLATIONS)
        self.devices = self.context.new_cdp_session(self.page)
        self.devices.send("WebAuthn.enable")
        self.device = self.plug_in()

    def plug_in(self):
        """A device that keeps passkeys, and whose person touches it and shows a finger whenever it asks."""
        options = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True, "isUserVerified": True}
        options["automaticPresenceSimulation"] = True
        return self.devices.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]

    def pull_out(self):
        self.devices.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": self.device})

    def open(self, path):
        self.page.goto(path)
        return self.page

    def sign_in(self, user):
        page = self.open("/accounts/login/")
        page.get_by_label("User name or e-mail address").fill(user.username)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        return page

    def sign_out(self):
        self.context.clear_cookies()

    def is_content(self):
        """Nothing that the browser refused, nothing that it complained of."""
        return self.page.evaluate("window.violations") == [] and self.complaints == []


def at_home(url):
    return re.sub(r"//[\d.]+:", "//localhost:", url)


@pytest.fixture
def visitors(chromium, portal):
    opened = []

    def visit(**options):
        opened.append(Visitor(chromium, portal, **options))
        return opened[-1]

    yield visit
    for visitor in opened:
        visitor.context.close()


@pytest.fixture
def ada(file_database):
    ada = make_user("ada")
    ada.password = PBKDF2InTurn().encode(PASSWORD, "salt-of-a-test", iterations=1000)  # the portal of an installation knows no other
    ada.save(update_fields=["password"])
    return ada


def is_in(page):
    expect(page.locator("#account-menu")).to_be_visible()


def test_who_must_have_one_sets_an_app_up_and_signs_in_with_its_codes(visitors, ada):
    RolePolicy.objects.create(role=Role.STUDENT, second_factor=True)
    visitor = visitors()
    page = visitor.sign_in(ada)
    expect(page.locator("main")).to_contain_text("Set up a second factor to go on")
    page.goto("/requests/")
    expect(page.locator("h1")).to_have_text("Second factor")
    page.get_by_role("link", name="Set up an app").click()
    picture = page.locator(".qr-code")
    assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
    secret = page.locator(".copy code").inner_text()
    page.get_by_label("The code your app shows now").fill(code_of(secret))
    page.get_by_role("button", name="Turn it on").click()
    expect(page.locator(".codes li")).to_have_count(10)
    codes = page.locator(".codes li").all_inner_texts()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save as a file").click()
    assert saved.value.path().read_text().split() == codes
    page.goto("/requests/")
    expect(page.locator("h1")).to_have_text("Requests")

    for code in (code_of(secret, later=1), codes[0]):
        visitor.sign_out()
        visitor.sign_in(ada)
        field = page.get_by_label("Code")
        expect(field).to_be_focused()
        assert (field.get_attribute("inputmode"), field.get_attribute("autocomplete")) == ("numeric", "one-time-code")
        field.fill(code)
        page.get_by_role("button", name="Sign in", exact=True).click()
        is_in(page)
    assert visitor.is_content(), visitor.complaints


def add_key(page, name, *, passkey):
    page.goto("/accounts/2fa/")
    page.get_by_role("link", name="Add a key").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Make it a passkey").set_checked(passkey)
    page.get_by_role("button", name="Add the key").click()


def test_a_security_key_is_added_asked_for_renamed_and_removed(visitors, ada):
    visitor = visitors()
    page = visitor.sign_in(ada)
    add_key(page, "blue", passkey=False)
    expect(page.locator(".codes li")).to_have_count(10)
    visitor.sign_out()
    visitor.sign_in(ada)
    page.get_by_role("button", name="Use a security key or passkey").click()
    is_in(page)

    page.goto("/accounts/2fa/")
    page.get_by_role("link", name="Rename blue").click()
    page.get_by_label("Name", exact=True).fill("green")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".things")).to_contain_text("green")
    assert Authenticator.objects.get(type="webauthn").wrap().name == "green"
    page.get_by_role("link", name="Remove green").click()
    page.get_by_role("button", name="Remove the key").click()
    expect(page.locator("main")).to_contain_text("You have none yet")
    assert not Authenticator.objects.exists()
    assert visitor.is_content(), visitor.complaints


def test_a_passkey_signs_in_by_itself(visitors, ada):
    visitor = visitors()
    add_key(visitor.sign_in(ada), "this computer", passkey=True)
    page = visitor.page
    expect(page.locator(".codes li")).to_have_count(10)
    visitor.sign_out()
    page.goto("/accounts/login/?next=/requests/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.locator("h1")).to_have_text("Requests")
    is_in(page)
    assert visitor.is_content(), visitor.complaints


def test_a_key_that_is_not_there_is_told_in_words(visitors, ada):
    visitor = visitors()
    add_key(visitor.sign_in(ada), "blue", passkey=False)
    page = visitor.page
    expect(page.locator(".codes li")).to_have_count(10)
    visitor.sign_out()
    visitor.sign_in(ada)
    visitor.pull_out()
    visitor.device = visitor.plug_in()  # another one
    page.get_by_role("button", name="Use a security key or passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("The key was not used")
    expect(page.get_by_label("Code")).to_be_visible()
    assert visitor.is_content(), visitor.complaints


def test_a_key_shows_again_who_one_is(visitors, ada):
    visitor = visitors()
    add_key(visitor.sign_in(ada), "blue", passkey=False)
    page = visitor.page
    expect(page.locator(".codes li")).to_have_count(10)
    page.goto("/accounts/2fa/webauthn/reauthenticate/?next=/accounts/2fa/recovery-codes/generate/")
    page.get_by_role("button", name="Use a security key or passkey").click()
    expect(page.locator("h1")).to_have_text("Make new recovery codes")
    assert visitor.is_content(), visitor.complaints


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1440, True)], ids=["phone, light", "desk, dark"])
def test_its_pages_are_accessible_and_fit(visitors, ada, width, dark, tmp_path):
    secret = generate_totp_secret()
    visitor = visitors(width=width, dark=dark)
    page = visitor.sign_in(ada)
    is_in(page)

    def look(name, path=None):
        if path is not None:
            page.goto(path)
        assert page.locator("h1").count() == 1, name
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), f"{name} is wider than the window"
        assert page.evaluate("window.violations") == [], name
        page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        found = Axe().run(page)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"

    RolePolicy.objects.create(role=Role.STUDENT, second_factor=True)
    look("required", "/accounts/2fa/")
    look("activate", "/accounts/2fa/totp/activate/")
    look("add key", "/accounts/2fa/webauthn/add/")
    look("password again", "/accounts/reauthenticate/")
    add_key(page, "blue key on the key ring", passkey=True)
    expect(page.locator(".codes li")).to_have_count(10)
    look("codes")
    look("codes again", "/accounts/2fa/recovery-codes/")
    visitor.sign_out()
    visitor.sign_in(ada)
    expect(page.get_by_label("Code")).to_be_visible()
    look("second step by key")
    page.get_by_role("button", name="Use a security key or passkey").click()
    is_in(page)
    TOTP.activate(ada, secret)
    look("all", "/accounts/2fa/")
    look("keys", "/accounts/2fa/webauthn/")
    look("new codes", "/accounts/2fa/recovery-codes/generate/")
    look("remove app", "/accounts/2fa/totp/deactivate/")
    look("code again", "/accounts/2fa/reauthenticate/")
    look("key again", "/accounts/2fa/webauthn/reauthenticate/")
    key = Authenticator.objects.get(type="webauthn")
    look("rename", f"/accounts/2fa/webauthn/keys/{key.pk}/edit/")
    look("remove key", f"/accounts/2fa/webauthn/keys/{key.pk}/remove/")
    visitor.sign_out()
    look("sign in", "/accounts/login/")
    visitor.sign_in(ada)
    expect(page.get_by_label("Code")).to_be_visible()
    look("second step")
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.locator(".field-error")).to_be_visible()
    look("wrong code")
