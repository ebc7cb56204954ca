"""What holds for every page: headers, banners, errors, htmx, and what the templates may contain."""

import json
import re

import pytest
from django.conf import settings
from django.contrib import messages
from django.contrib.messages.storage.fallback import FallbackStorage
from django.http import HttpResponse
from django.template import engines
from django.test import Client, RequestFactory, override_settings
from django_htmx.middleware import HtmxDetails

from labportal import assets
from labportal.middleware import HtmxAnswers
from machines.selectors import display
from tests.factories import make_cluster, make_machine, make_user

pytestmark = pytest.mark.django_db
TEMPLATES = sorted((settings.BASE_DIR / "templates").rglob("*.html"))
ICONS = json.loads((settings.BASE_DIR / "package.json").read_text())["icons"]


@pytest.fixture
def signed_in(client):
    client.force_login(make_user())
    return client


def test_every_page_is_locked_down(signed_in):
    headers = signed_in.get("/").headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src 'self'" in policy
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    assert headers["X-Frame-Options"] == "DENY" and headers["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in headers["Cache-Control"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(settings.BASE_DIR / "templates")))
def test_no_template_has_inline_style_or_script(path):
    text = path.read_text()
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:|hx-on", text)
    assert not re.search(r"<script(?![^>]*\ssrc=)(?![^>]*application/json)", text)
    engines["django"].get_template(str(path.relative_to(settings.BASE_DIR / "templates")))


def test_every_icon_that_is_used_is_in_the_sprite():
    words = {name for path in TEMPLATES for name in re.findall(r'{% icon "([a-z0-9-]+)" %}', path.read_text())}
    words |= {icon for _tone, icon in display.ICONS.values()} | {display.STALE_ICON}
    assert len(words) > 20 and words <= set(ICONS)


def test_a_simulated_cluster_and_a_demonstration_are_said_on_every_page(signed_in):
    assert "simulated" not in signed_in.get("/").content.decode()
    make_cluster(kind="simulator")
    assert "is simulated: its machines are not real" in signed_in.get("/").content.decode()
    with override_settings(DEMO=True):
        assert "demonstration" in Client().get("/accounts/login/").content.decode()


def test_pages_work_and_say_so_where_nothing_was_built(signed_in, monkeypatch):
    monkeypatch.setattr("labportal.context.vendor_is_built", lambda: False)
    monkeypatch.setattr("labportal.templatetags.portal.vendor_is_built", lambda: False)
    text = signed_in.get("/").content.decode()
    assert "Run bin/assets" in text and "vendor/" not in text


def test_what_is_built_is_found(monkeypatch):
    assets.vendor_is_built.cache_clear()
    monkeypatch.setattr(assets.finders, "find", lambda name: None)
    assert assets.vendor_is_built() is False
    assets.vendor_is_built.cache_clear()
    monkeypatch.setattr(assets.finders, "find", lambda name: name)
    assert assets.vendor_is_built() is True
    assets.vendor_is_built.cache_clear()


def test_the_navigation_shows_only_what_one_may_use(client):
    for role, words, others in (
        ("student", ["My machines", "Classes"], ["Teach<", "Operations", "Admin<"]),
        ("teacher", ["Teach<"], ["Operations", "Admin<"]),
        ("staff", ["Teach<", "Operations", "All machines", "Admin<"], []),
    ):
        client.force_login(make_user(role=role))
        text = client.get("/").content.decode()
        assert all(word in text for word in words) and not any(word in text for word in others)


# -- errors --------------------------------------------------------------------------------------


def test_errors_say_what_happened_and_what_to_do(signed_in):
    text = signed_in.get("/nothing/").content.decode()
    assert "This page is not here" in text and "My machines" in text
    text = signed_in.get("/operations/").content.decode()
    assert "You may not do this" in text
    client = Client(enforce_csrf_checks=True)
    assert "open for too long" in client.post("/accounts/login/").content.decode()


def test_a_mistake_of_the_portal_shows_no_trace(client, monkeypatch):
    def broken(*args):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("machines.selectors.pages.machines_of", broken)
    client.raise_request_exception = False
    client.force_login(make_user())
    response = client.get("/")
    text = response.content.decode()
    assert response.status_code == 500 and "The portal made a mistake" in text and "secret detail" not in text


# -- htmx ----------------------------------------------------------------------------------------


def test_a_fragment_asked_for_after_signing_out_leads_to_signing_in(client):
    machine = make_machine()
    response = client.get(f"/machines/{machine.key}/", headers={"HX-Request": "true", "HX-Current-URL": f"http://testserver/machines/{machine.key}/"})
    assert response.status_code == 200 and not response.content
    assert response.headers["HX-Redirect"] == f"/machines/{machine.key}/"


@pytest.mark.parametrize(("method", "told"), [("post", True), ("get", False)])
def test_messages_go_along_with_the_answer_to_a_click(method, told):
    request = getattr(RequestFactory(), method)("/", headers={"HX-Request": "true"})
    request.htmx, request.session = HtmxDetails(request), {}
    request._messages = FallbackStorage(request)
    messages.error(request, "It is on already.")
    response = HtmxAnswers(lambda request: HttpResponse(status=204))(request)
    assert ("It is on already." in response.headers.get("HX-Trigger", "")) is told
