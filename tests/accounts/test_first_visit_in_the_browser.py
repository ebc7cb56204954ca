"""Coming to the portal for the first time, in Chromium, with a mail server."""

import re

import pytest
from django.urls import reverse

from classes.models import Enrolment
from tests.classes.rows import make_class, make_invite, make_place
from tests.classes.test_joining import link
from tests.factories import make_user
from tests.mail_server import mail_server
from tests.web import WebProcess, wait

expect = pytest.importorskip("playwright.sync_api").expect
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
pytestmark = pytest.mark.browser

SOON = 15_000  # ms


@pytest.fixture
def postbox():
    with mail_server() as postbox:
        yield postbox


@pytest.fixture
def portal_with_mail(file_database, collected, tmp_path, postbox):
    portal = WebProcess(tmp_path, collected, EMAIL_URL=postbox.url)
    portal.start()
    yield portal
    portal.kill()


@pytest.fixture
def page(chromium):
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.set_default_timeout(SOON)
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    yield page
    context.close()


def accessible(page):
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_invite_leads_over_the_mail_to_a_machine(portal_with_mail, postbox, page):
    lab_class = make_class()
    place = make_place(lab_class)
    page.goto(portal_with_mail.url + link(make_invite(lab_class)))
    accessible(page)
    page.get_by_role("button", name="Sign up and join").click()
    page.get_by_label("User name").fill("grace")
    page.get_by_label("E-mail address").fill("grace@uni.test")
    page.get_by_label("Password").fill("an admirable compiler")
    page.get_by_role("main").get_by_role("button", name="Sign up").click()
    expect(page.get_by_role("heading", name="Confirm your e-mail address")).to_be_visible()
    accessible(page)
    assert not Enrolment.objects.exists()

    letter = wait(lambda: postbox.to("grace@uni.test"), lambda: "no mail came")[0]
    page.goto(portal_with_mail.url + re.search(r"https?://[^/]+(/accounts/\S+)", letter)[1])
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text(f"Your machine is {place.machine.name}.")).to_be_visible()
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    accessible(page)
    assert Enrolment.objects.get().student.machines.get() == place.machine
    assert page.complaints == []


def test_a_forgotten_password_comes_back_by_mail(portal_with_mail, postbox, page):
    make_user("ada")
    page.goto(portal_with_mail.url + reverse("account_reset_password"))
    page.get_by_label("E-mail address").fill("ada@uni.test")
    page.get_by_role("button", name="Send the link").click()
    letter = wait(lambda: postbox.to("ada@uni.test"), lambda: "no mail came")[0]
    page.goto(portal_with_mail.url + re.search(r"https?://[^/]+(/accounts/\S+)", letter)[1])
    page.get_by_label("New password", exact=True).fill("an admirable compiler")
    page.get_by_label("New password again").fill("an admirable compiler")
    page.get_by_role("main").get_by_role("button").first.click()
    expect(page.get_by_text("Your password is changed").first).to_be_visible()
    assert page.complaints == []
