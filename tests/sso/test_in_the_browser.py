"""Single sign-on in Chromium, with the portal's own Content-Security-Policy and cookies. The portal is at localhost and
the systems at 127.0.0.1, which to a browser are different sites."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from accounts.hashers import PBKDF2InTurn
from accounts.models import Identity, Role
from tests.factories import PASSWORD, make_user
from tests.sso.identity_provider import ENTITY_ID, GROUPS
from tests.sso.provider import CLIENT_ID, CLIENT_SECRET
from tests.web import WebProcess, wait

pytestmark = pytest.mark.browser


@pytest.fixture
def portal(file_database, collected, tmp_path, provider, idp):
    """Configured as an installation is: by the environment."""
    oidc = {"OIDC_ISSUER": provider.issuer, "OIDC_CLIENT_ID": CLIENT_ID, "OIDC_CLIENT_SECRET": CLIENT_SECRET, "OIDC_NAME": "Keycloak"}
    saml = {"SAML_IDP_ENTITY_ID": ENTITY_ID, "SAML_IDP_METADATA_URL": f"{idp.url}/metadata", "SAML_NAME": "Shibboleth", "SAML_GROUPS_ATTRIBUTE": GROUPS}
    portal = WebProcess(tmp_path, collected, **oidc, **saml, OIDC_ROLES='{"teacher": ["everybody"]}', SAML_ROLES='{"staff": ["member"]}')
    portal.start()
    portal.url = portal.url.replace("127.0.0.1", "localhost")
    yield portal
    portal.kill()


@pytest.fixture
def page(chromium):
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.said = []
    page.on("console", lambda message: page.said.append(message.text) if "Content Security Policy" in message.text else None)
    yield page
    assert page.said == []
    context.close()


def test_the_button_leads_to_the_provider_and_back_as_the_right_person(portal, page):
    page.goto(f"{portal.url}/machines/")  # for staff: led to the sign-in page and back
    page.get_by_role("button", name="Sign in with Keycloak").click()
    page.wait_for_url("http://127.0.0.1:*/realms/uni/authorize*")
    page.fill("[name=login]", "grace")
    page.click("text=Sign in there")
    page.wait_for_url(f"{portal.url}/machines/")
    assert page.get_by_text("Grace").first.is_visible()
    identity = Identity.objects.get()
    assert (identity.source, identity.uid, identity.user.role) == ("sso:oidc", "g-1", Role.TEACHER)

    page.goto(f"{portal.url}/accounts/logout/")
    page.locator("main form button").click()
    page.goto(f"{portal.url}/accounts/profile/")
    assert page.get_by_role("button", name="Sign in with Keycloak").is_visible()


def test_an_answer_that_the_other_site_posts_arrives_in_the_session(portal, page):
    page.goto(f"{portal.url}/accounts/login/?next=/accounts/profile/")
    page.get_by_role("button", name="Sign in with Shibboleth").click()
    page.wait_for_url("http://127.0.0.1:*/sso*")
    page.click("text=Sign in there")
    page.wait_for_url(f"{portal.url}/accounts/profile/")
    identity = Identity.objects.get()
    assert (identity.source, identity.uid, identity.user.role) == ("sso:university", "persistent-1", Role.STAFF)


@pytest.mark.processes
def test_nobody_waits_for_a_slow_provider_but_who_signs_in_there(portal, provider):
    provider.misbehave.add("slow")
    with requests.Session() as session, ThreadPoolExecutor() as pool:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', session.get(f"{portal.url}/accounts/login/").text)[1]
        waits = pool.submit(session.post, f"{portal.url}/accounts/oidc/oidc/login/", {"csrfmiddlewaretoken": token}, timeout=30)
        wait(lambda: provider.asked)
        assert requests.get(f"{portal.url}/accounts/login/", timeout=30).status_code == 200
        assert not waits.done()
        assert waits.result().status_code == 401


def test_somebody_connects_an_account_and_signs_in_with_it(portal, page):
    ada, hasher = make_user("ada"), PBKDF2InTurn()
    ada.password = hasher.encode(PASSWORD, hasher.salt())  # as an installation has it
    ada.save()
    page.goto(f"{portal.url}/accounts/login/")
    page.fill("[name=login]", "ada")
    page.fill("[name=password]", PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(f"{portal.url}/")
    page.goto(f"{portal.url}/accounts/3rdparty/")
    page.get_by_role("button", name="Connect Keycloak").click()
    page.wait_for_url("http://127.0.0.1:*/realms/uni/authorize*")
    page.fill("[name=login]", "grace")
    page.click("text=Sign in there")
    page.wait_for_url(f"{portal.url}/accounts/3rdparty/")
    assert page.get_by_text("You can now sign in with Keycloak.").is_visible()
    assert Identity.objects.get().user == ada
