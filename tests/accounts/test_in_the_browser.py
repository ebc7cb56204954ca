"""The pages about oneself in Chromium: in the frame on every width, plain to everybody, and true."""

import json
import re

import pytest
from django.urls import reverse

from accounts.hashers import PBKDF2InTurn
from accounts.models import User
from accounts.services import audit
from tests.factories import PASSWORD, make_cluster, make_user

playwright_api = pytest.importorskip("playwright.sync_api")
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
expect = playwright_api.expect
pytestmark = pytest.mark.browser

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ada@laptop"
PAGES = (
    "accounts:profile",
    "account_email",
    "account_change_password",
    "accounts:ssh_keys",
    "accounts:sessions",
    "accounts:data",
    "accounts:export",
    "accounts:ask_removal",
)
COMPLAIN = """
window.violations = [];
document.addEventListener('securitypolicyviolation', ({ violatedDirective, sample }) => window.violations.push(`${violatedDirective} ${sample}`));
"""


@pytest.fixture
def ada(file_database):
    user = make_user("ada", first_name="Ada")
    user.password = PBKDF2InTurn().encode(PASSWORD, "salt-of-the-test")  # as the portal's own process reads it
    user.save(update_fields=["password"])
    return user


@pytest.fixture
def window(chromium, portal):
    """A browser of its own in which somebody signs in as people do."""
    contexts = []

    def open_window(user, *, width=1440, dark=False, home="/", **options):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", base_url=portal.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(COMPLAIN)
        page.goto(reverse("account_login"))
        page.fill("[name=login]", user.username)
        page.fill("[name=password]", PASSWORD)
        page.click("main button[type=submit]")
        page.wait_for_url(portal.url + home)
        return page

    yield open_window
    for context in contexts:
        context.close()


def test_every_page_about_oneself_is_in_the_frame_and_for_everybody(window, ada):
    for width, dark in ((1440, False), (390, False), (390, True), (1440, True)):
        page = window(ada, width=width, dark=dark)
        for name in PAGES:
            page.goto(reverse(name))
            here = page.locator(".account-nav [aria-current]")
            if name != "accounts:ask_removal":  # a question, which stands alone
                expect(here).to_have_count(1)
                expect(here).to_be_in_viewport()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than {width}"
            assert page.evaluate("window.violations") == []
            found = Axe().run(page)
            assert found.violations_count == 0, f"{name}: {found.generate_report()}"


def test_the_record_in_the_admin_is_for_everybody(window, ada):
    User.objects.filter(pk=ada.pk).update(role="staff", is_staff=True)
    make_cluster()  # simulated, which a banner says
    entry = audit.record("user.limits", acting_user=ada, target=make_user("grace"))
    for dark in (False, True):
        page = window(ada, dark=dark, home=reverse("machines:machines"))
        for path in (reverse("admin:accounts_auditentry_changelist"), reverse("admin:accounts_auditentry_change", args=[entry.pk])):
            page.goto(path)
            expect(page.locator(".portal-banner")).to_be_visible()
            expect(page.get_by_role("link", name="grace").first).to_be_visible()
            found = Axe().run(page)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"


def test_a_person_walks_through_their_account(window, ada, tmp_path):
    other = window(ada)
    page = window(ada, timezone_id="America/Lima", locale="en-GB")

    page.locator("#account-menu summary").click()
    page.get_by_role("link", name="Profile").first.click()
    page.get_by_label("Time zone").select_option("Asia/Tokyo")
    page.get_by_label("Keyboard layout").select_option("de")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Your profile is saved.")).to_be_visible()
    assert User.objects.get().keyboard == "de"

    page.get_by_role("link", name="SSH keys").click()
    page.get_by_label("Public key").fill(KEY)
    page.get_by_role("button", name="Add the key").click()
    added = page.locator(".things time").first
    # The moment is told in the chosen zone, not in the browser's: 14 hours lie between them.
    told = added.evaluate(
        """time => {
            const at = (timeZone) => new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "medium", timeZone }).format(new Date(time.dateTime));
            return [time.title === at("Asia/Tokyo"), time.title === at("America/Lima")];
        }"""
    )
    assert told == [True, False]

    page.get_by_role("link", name="Signed in").click()
    expect(page.locator(".things > li")).to_have_count(2)
    page.get_by_role("button", name="Sign out everywhere else").click()
    expect(page.locator(".things > li")).to_have_count(1)
    other.goto("/")
    expect(other).to_have_url(re.compile("/accounts/login/"))

    page.get_by_role("link", name="Your data").click()
    page.get_by_role("link", name="Get your data").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the file").click()
    download.value.save_as(tmp_path / "data.json")
    found = json.loads((tmp_path / "data.json").read_text())
    assert found["profile"]["time_zone"] == "Asia/Tokyo" and found["ssh_keys"][0]["name"] == "ada@laptop"

    page.get_by_role("link", name="Back to your data").click()
    page.get_by_role("link", name="Ask to be removed").click()
    page.get_by_role("button", name="Ask to be removed").click()
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_text("Your account stays.")).to_be_visible()
    assert User.objects.get().removal_asked_at is None
