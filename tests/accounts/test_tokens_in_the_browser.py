"""A token in Chromium: made after the password is typed again, shown once and kept by no page, used, revoked, and in no log."""

import json
import urllib.request

import pytest

from accounts.hashers import PBKDF2InTurn
from accounts.models import ApiToken
from tests.factories import PASSWORD, make_user
from tests.labportal.test_in_the_browser import Axe, Visitor, expect

playwright_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser


def test_a_token_is_made_shown_once_and_used(chromium, portal):
    user = make_user("ada")
    hasher = PBKDF2InTurn()
    user.password = hasher.encode(PASSWORD, hasher.salt())  # as the portal of an installation reads it
    user.save()
    visitor = Visitor(chromium, portal, user)
    page = visitor.open("/accounts/tokens/")
    page.get_by_role("link", name="New token").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.locator("main [type=submit]").first.click()
    page.get_by_label("Name", exact=True).fill("laptop")
    page.get_by_label("Start, stop and revert machines").check()
    assert not Axe().run(page).response["violations"]
    page.get_by_role("button", name="Make the token").click()
    secret = page.get_by_label("token", exact=True).first.inner_text()
    assert not Axe().run(page).response["violations"]
    assert secret not in page.url

    request = urllib.request.Request(f"{portal.url}/api/v1/me", headers={"Authorization": f"Bearer {secret}"})
    with urllib.request.urlopen(request, timeout=15) as answer:
        assert json.load(answer)["username"] == "ada"

    page.get_by_role("link", name="I have copied it").click()
    expect(page.get_by_text("last used")).to_be_visible()
    with pytest.raises(playwright_api.Error, match="ERR_CACHE_MISS"):  # the browser kept no copy of the page
        page.go_back()
    page.wait_for_url("chrome-error://**")
    page.goto(f"{portal.url}/accounts/tokens/")
    page.get_by_role("link", name="Revoke laptop").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("No API tokens yet")).to_be_visible()
    assert ApiToken.objects.get().revoked_at is not None
    page.goto(f"{portal.url}/api/v1/docs")
    assert not Axe().run(page).response["violations"]
    assert page.evaluate("window.violations") == []
    assert secret not in portal.log.read_text()
    visitor.context.close()
