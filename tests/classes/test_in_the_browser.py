"""Pages of classes in Chromium: waiting for a machine, running a class with many machines."""

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from classes.models import Enrolment
from classes.services import enrolment
from machines.lifecycle import Event, State
from machines.models import Machine
from machines.services import transitions
from tests.classes.rows import enrol, make_class, make_place
from tests.factories import make_user

playwright_api = pytest.importorskip("playwright.sync_api")
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
expect = playwright_api.expect
pytestmark = pytest.mark.browser

TRUE_WITHIN = 2_000  # ms, from the change in the database to the page
WATCH = "window.violations = []; document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));"


@pytest.fixture
def open_page(chromium, portal):
    """open_page(user=None, width=…, dark=…): a window; at the end nothing may have been refused or failed."""
    opened = []

    def visit(user=None, *, width=1440, dark=False):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", base_url=portal.url)
        if user is not None:
            client = Client()
            client.force_login(user)
            context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": client.session.session_key, "url": portal.url}])
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.add_init_script(WATCH)
        opened.append((context, page, complaints))
        return page

    yield visit
    for context, page, complaints in opened:
        assert (complaints, page.evaluate("window.violations")) == ([], [])
        context.close()


def accessible(page):
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def path_of(lab_class):
    return reverse("classes:lab_class", args=[lab_class.key])


def test_whoever_waits_sees_the_machine_come_without_a_reload(file_database, open_page):
    lab_class = make_class()
    place = make_place(lab_class)
    seated, waiting = enrol(lab_class), enrol(lab_class)
    page = open_page(waiting.student)
    page.goto(path_of(lab_class))
    expect(page.locator("#lab-class")).to_contain_text("You are the next")
    page.evaluate("window.notReloaded = true")
    enrolment.leave(seated)
    fresh = Machine.objects.get(owner=waiting.student)
    expect(page.locator("#lab-class")).to_contain_text(fresh.name, timeout=TRUE_WITHIN)
    assert fresh != place.machine and page.evaluate("window.notReloaded")


def test_chosen_machines_stay_chosen_while_the_table_goes_on(file_database, open_page):
    lab_class = make_class()
    places = [make_place(lab_class) for _ in range(6)]
    page = open_page(lab_class.teacher)
    page.goto(path_of(lab_class))
    start = page.get_by_role("button", name="Start", exact=True)
    expect(start).to_be_disabled()
    for place in places[:2]:
        page.get_by_label(f"Choose: {place.machine.name}").check()
    expect(page.locator("[data-chosen]")).to_have_text("2 chosen")
    transitions.apply(places[5].machine, Event.SEEN_ON)
    expect(page.locator(f'tr[data-machine="{places[5].machine.key}"] [data-state]')).to_contain_text("On", timeout=TRUE_WITHIN)
    expect(page.locator("[data-chosen]")).to_have_text("2 chosen")
    start.click()
    expect(page.locator("#messages")).to_contain_text("2 machines are at it.")
    assert Machine.objects.filter(state=State.STARTING).count() == 2


def test_all_machines_are_deleted_only_with_their_number(file_database, open_page):
    lab_class = make_class()
    for _ in range(6):
        make_place(lab_class)
    page = open_page(lab_class.teacher)
    page.goto(path_of(lab_class))
    page.get_by_label("Choose all on this page").check()
    page.locator("#bulk-menu summary").click()
    page.get_by_role("button", name="Delete machines").click()
    expect(page.get_by_role("link", name="Keep it as it is")).to_be_focused()
    accessible(page)
    page.get_by_label("Type 6 to go on").fill("5")
    page.get_by_role("button", name="Delete").click()
    assert not Machine.objects.filter(state=State.DESTROYING).exists()
    page.get_by_label("Type 6 to go on").fill("6")
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#ready-title")).to_have_text("No machines")
    assert Machine.objects.filter(state=State.DESTROYING).count() == 6


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (1440, True), (390, False), (390, True)])
def test_the_class_page_is_accessible(file_database, open_page, width, dark):
    lab_class = make_class()
    for state in (State.RUNNING, State.STOPPED, State.FAILED, State.PENDING):
        make_place(lab_class, state=state, problem="The cluster's storage is full." if state == State.FAILED else "")
    for _ in range(5):
        enrol(lab_class, make_user())
    page = open_page(lab_class.teacher, width=width, dark=dark)
    page.goto(path_of(lab_class))
    accessible(page)
    page.get_by_role("link", name="New invite").click()
    expect(page.locator("dialog[open]")).to_be_visible()
    accessible(page)
    page.keyboard.press("Escape")
    page.goto(reverse("classes:project", args=[lab_class.key, lab_class.invites.first().pk]))
    accessible(page)
    assert Enrolment.objects.count() == 5
