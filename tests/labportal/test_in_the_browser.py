"""The portal's pages in Chromium: at once after a click, true by the live feed, whole without scripts."""

import re
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.urls import reverse
from django.utils import timezone

from machines.lifecycle import Event, Kind, State
from machines.models import Cluster, Machine, Operation, OperationEvent, RequestState, Snapshot
from machines.services import transitions
from machines.services.feed import publish
from tests.classes.rows import enrol, make_class, make_place
from tests.factories import make_cluster, make_machine, make_operation, make_request, make_template, make_user

playwright_api = pytest.importorskip("playwright.sync_api")
Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
expect = playwright_api.expect
pytestmark = pytest.mark.browser

SOON = 15_000  # ms
TRUE_WITHIN = 2_000  # ms, from the change in the database to the page
SIZE_BUDGET = 150_000  # bytes over the wire of a first visit
SHIFT_BUDGET = 0.005  # a second that is counted up may make its own line longer, and nothing else move
SSH = [{"service": "ssh", "host": "127.0.0.1", "port": 2207, "source": "forward"}]

WATCH = """
window.violations = []; window.shift = 0; window.moved = [];
document.addEventListener('securitypolicyviolation', ({ violatedDirective, sample }) => window.violations.push(`${violatedDirective} ${sample}`));
new PerformanceObserver((list) => {
    for (const entry of list.getEntries().filter((entry) => !entry.hadRecentInput)) {
        window.shift += entry.value;
        for (const { node, previousRect: was, currentRect: is } of entry.sources)
            window.moved.push([node?.parentElement?.outerHTML.slice(0, 200), was.toJSON(), is.toJSON()]);
    }
}).observe({ type: 'layout-shift', buffered: true });
"""


class Visitor:
    """A browser window of one person, with everything it complained about."""

    def __init__(self, chromium, portal, user=None, *, width=1440, dark=False, **options):
        height = 844 if width < 600 else 900
        self.context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", **options)
        self.portal, self.complaints = portal, []
        if user is not None:
            self.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session_of(user), "url": portal.url}])
        self.page = self.window()

    def window(self):
        page = self.context.new_page()
        page.set_default_timeout(SOON)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.add_init_script(WATCH)
        return page

    def open(self, path):
        self.page.goto(f"{self.portal.url}{path}")
        return self.page

    def state(self, page=None):
        return (page or self.page).locator("#machine [data-state]").first


def session_of(user):
    session = SessionStore()
    session.update({SESSION_KEY: str(user.pk), BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0], HASH_SESSION_KEY: user.get_session_auth_hash()})
    session.save()
    return session.session_key


@pytest.fixture
def visitors(chromium, portal):
    opened = []

    def visit(user=None, **options):
        opened.append(Visitor(chromium, portal, user, **options))
        return opened[-1]

    yield visit
    for visitor in opened:
        visitor.context.close()


@pytest.fixture
def owner(file_database):
    return make_user("ada", first_name="Ada", last_name="Lovelace")


@pytest.fixture
def machine(owner):
    return make_machine("web-07", owner=owner, password="plum-otter-42", endpoints=SSH)


def page_of(machine):
    return reverse("machines:machine", args=[machine.key])


def finish(machine, event):
    """What a worker writes at the end of an operation."""
    machine.refresh_from_db()
    Operation.objects.filter(machine=machine, state="queued").update(state="succeeded")
    transitions.apply(machine, event)


# -- a click -------------------------------------------------------------------------------------


def test_a_click_is_answered_at_once_and_the_truth_follows_without_a_reload(visitors, machine, owner):
    visitor = visitors(owner)
    page = visitor.open(page_of(machine))
    page.evaluate("window.notReloaded = true")
    words = page.evaluate(
        """() => new Promise((done) => {
            document.querySelector('#machine .btn-primary').click();
            const words = () => ['[data-state]', '.btn-primary'].map((name) => document.querySelector(`#machine ${name}`).innerText);
            requestAnimationFrame(() => done(words()));
        })"""
    )
    assert [word.strip() for word in words] == ["Starting…", "Starting…"]
    expect(page.locator("#working")).to_contain_text("next in the queue")
    finish(machine, Event.SETTLED_ON)
    expect(visitor.state()).to_contain_text("On", timeout=TRUE_WITHIN)
    expect(page.locator("#announcements")).to_have_text("web-07: On")
    assert page.evaluate("window.notReloaded")
    assert page.evaluate("window.violations") == [] and visitor.complaints == []


def test_what_happens_elsewhere_is_seen_in_every_window(visitors, machine, owner):
    visitor = visitors(owner)
    page = visitor.open(page_of(machine))
    cards = visitor.window()
    cards.goto(f"{visitor.portal.url}/")
    page.locator("#machine .btn-primary").click()
    expect(cards.locator(".state")).to_contain_text("Starting…", timeout=SOON)
    finish(machine, Event.SETTLED_ON)
    expect(cards.locator(".state")).to_contain_text("On", timeout=TRUE_WITHIN)
    assert Operation.objects.count() == 1


def test_a_refusal_is_told_and_the_page_shows_why(visitors, machine, owner):
    visitor = visitors(owner)
    page = visitor.open(page_of(machine))
    Machine.objects.update(state=State.RUNNING)  # behind the page's back
    page.locator("#machine .btn-primary").click()
    expect(page.locator("#toasts")).to_contain_text("web-07 is on already.")
    expect(visitor.state()).to_contain_text("On")


def test_a_portal_that_does_not_answer_says_so_and_gives_the_button_back(visitors, machine, owner):
    visitor = visitors(owner)
    page = visitor.open(page_of(machine))
    page.context.set_offline(True)
    page.locator("#machine .btn-primary").click()
    expect(page.locator("#toasts")).to_contain_text("Nothing was changed by this click")
    expect(page.locator("#machine .btn-primary")).to_have_text("Start")


def test_updates_leave_menus_dialogs_and_focus_alone(visitors, machine, owner):
    visitor = visitors(owner)
    page = visitor.open(page_of(machine))
    menu = page.locator("#menu-machine")
    menu.locator("summary").click()
    page.evaluate("document.querySelector('#machine').dataset.old = 'yes'")
    publish(f"machine:{machine.key}")
    expect(page.locator("#machine:not([data-old])")).to_be_attached()
    expect(menu).to_have_attribute("open", "")
    expect(menu.locator("summary")).to_be_focused()

    menu.get_by_text("Revert").click()
    dialog = page.locator("#dialog")
    expect(dialog).to_contain_text("Everything changed in the machine since")
    assert page.evaluate("document.activeElement.innerText") == "Keep it as it is"
    publish(f"machine:{machine.key}")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(menu.locator("summary")).to_be_focused()

    menu.locator("summary").click()
    menu.get_by_text("Revert").click()
    dialog.locator(".btn-danger").click()
    expect(visitor.state()).to_contain_text("Reverting…")
    expect(dialog).to_be_hidden()
    assert Operation.objects.get().kind == Kind.REVERT


def test_the_password_goes_away_by_itself(visitors, machine, owner):
    visitor = visitors(owner)
    visitor.page.clock.install()
    page = visitor.open(page_of(machine))
    page.locator("#show-credentials button").click()
    expect(page.locator("#credentials")).to_contain_text("plum-otter-42")
    page.clock.run_for(31_000)
    expect(page.locator("#show-credentials button")).to_be_visible()
    assert "plum-otter-42" not in page.content()
    page.locator("#show-credentials button").click()
    expect(page.locator("#credentials")).to_contain_text("plum-otter-42")


# -- without ---------------------------------------------------------------------------------------


def test_without_a_websocket_the_page_asks_every_few_seconds(visitors, machine, owner):
    visitor = visitors(owner)
    visitor.page.route_web_socket("**/live/", lambda socket: socket.close())
    visitor.open(page_of(machine))
    expect(visitor.state()).to_contain_text("Off")
    transitions.apply(machine, Event.START)
    expect(visitor.state()).to_contain_text("Starting…", timeout=8_000)


def test_the_socket_comes_back_with_the_portal(visitors, machine, owner):
    visitor = visitors(owner)
    visitor.open(page_of(machine))
    visitor.portal.kill()
    transitions.apply(machine, Event.START)
    visitor.portal.start()
    expect(visitor.state()).to_contain_text("Starting…", timeout=SOON)


def test_a_silent_cluster_is_amber_until_it_is_heard_of_again(visitors, machine, owner):
    Cluster.objects.update(seen_at=timezone.now())
    visitor = visitors(owner)
    visitor.page.clock.install(time=timezone.now() + timedelta(minutes=7))  # a computer's clock that is wrong
    page = visitor.open(page_of(machine))
    seen = page.locator("#machine .seen")
    page.clock.run_for(5_000)
    expect(seen).to_contain_text("as of")
    page.clock.run_for(40_000)
    expect(seen).to_contain_text("cluster has not answered")
    Cluster.objects.update(seen_at=timezone.now())
    expect(seen).to_contain_text("as of")
    page.clock.run_for(1_000)
    expect(seen).to_contain_text("as of")


@pytest.mark.parametrize("width", [390, 1440])
def test_long_names_widen_no_page(visitors, owner, width):
    name, member = "W" * 100, make_user("z" * 150, first_name="🚀" * 40, last_name="L" * 150)
    template = make_template(name="T" * 100)
    lab_class = make_class(name=name, teacher=make_user("kim", role="teacher"), template=template)
    for student, fields in ((owner, {"state": State.RUNNING, "endpoints": SSH}), (member, {"state": State.FAILED, "problem": "P" * 200})):
        make_place(lab_class, username="u" * 32, **fields)
        enrol(lab_class, student)
    enrol(lab_class, make_user("waiting", last_name="F" * 150))
    Machine.objects.update(name="n" * 63)
    machine = Machine.objects.get(owner=owner)
    Snapshot.objects.create(machine=machine, name="s" * 40, note="N" * 200, ready=True)
    operation = make_operation(machine, kind=Kind.START, state="failed", message="M" * 200)
    rooms = {
        owner: ["/", "/classes/", page_of(machine), f"{page_of(machine)}history/", f"{page_of(machine)}revert/", f"/operations/{operation.key}/"],
        lab_class.teacher: ["/classes/", f"/classes/{lab_class.key}/", f"/classes/{lab_class.key}/edit/", f"/classes/{lab_class.key}/archive/"],
        make_user("sam", role="staff"): ["/machines/", "/operations/", f"/admin/classes/labclass/{lab_class.pk}/change/"],
    }
    for user, paths in rooms.items():
        visitor = visitors(user, width=width)
        for path in paths:
            page = visitor.open(path)
            assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, path
            assert page.evaluate("[...document.querySelectorAll('.table-scroll')].every((box) => box.scrollWidth <= box.clientWidth)"), path


def test_the_main_paths_work_without_scripts(visitors, machine, owner):
    visitor = visitors(owner, java_script_enabled=False)
    page = visitor.open(page_of(machine))
    expect(visitor.state()).to_contain_text("Off")
    page.locator("#machine .btn-primary").click()
    expect(visitor.state()).to_contain_text("Starting…")
    finish(machine, Event.SETTLED_ON)
    page.reload()
    page.locator("#menu-machine summary").click()
    page.locator("#menu-machine").get_by_text("Revert").click()
    expect(page.locator("h1")).to_contain_text("Revert web-07")
    page.locator(".btn-danger").click()
    expect(visitor.state()).to_contain_text("Reverting…")
    page.locator("#show-credentials button").click()
    expect(page.locator("main")).to_contain_text("plum-otter-42")


# -- look and access ---------------------------------------------------------------------------------


@pytest.fixture
def museum(owner):
    """A machine in every state, with a past; answers the pages to look at, by name."""
    east = make_template(make_cluster("east"), name="Debian 12")
    rooms = {"mine": "/", "profile": "/accounts/profile/", "email": "/accounts/email/", "password": "/accounts/password/change/", "missing-page": "/nothing/"}
    for number, state in enumerate(state for state in State if state is not State.DESTROYED):
        machine = make_machine(
            f"web-{number:02}",
            owner=owner,
            template=east,
            state=state,
            endpoints=SSH,
            problem="The cluster's storage is full." if state == State.FAILED else "",
        )
        past = make_operation(machine, state="failed", requested_by=owner, message="The cluster's storage is full.", code="storage_full")
        OperationEvent.objects.create(operation=past, text="Switching it on.", level="error")
        if machine.is_moving:
            make_operation(machine, state="queued" if state == State.PENDING else "running", requested_by=owner, message="Switching it on.")
        rooms[state] = page_of(machine)
    Snapshot.objects.create(machine=machine, name="clean", ready=True)
    rooms |= {"operation": f"/operations/{past.key}/", "history": f"{page_of(machine)}history/", "forbidden": "/operations/"}
    stale = make_machine("west-01", owner=owner, template=make_template(make_cluster("west", reachable=False), ref="other"), state=State.RUNNING)
    on = Machine.objects.get(name="web-01")
    assert on.state == State.RUNNING
    rooms |= {"requests": "/requests/", "ask": "/requests/new/"}
    for wish in RequestState:
        machine = {RequestState.READY: on, RequestState.APPROVED: Machine.objects.get(state=State.PROVISIONING)}.get(wish)
        asked = make_request(owner, template=east, state=wish, machine=machine, answer="Use your class's.", problem="The storage is full.")
        rooms[f"request {wish}"] = f"/requests/{asked.key}/"
    return rooms | {"stale": page_of(stale), "revert": f"{page_of(on)}revert/", "snapshot": f"{page_of(on)}snapshot/"}


STRANGERS = ("/accounts/login/", "/accounts/signup/", "/accounts/password/reset/", "/accounts/password/reset/done/", "/accounts/confirm-email/")


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1440, True)], ids=["phone, light", "desk, dark"])
def test_every_page_is_accessible_and_fits(visitors, museum, owner, width, dark):
    staff = make_user("sam", role="staff")
    looked_at = [
        (owner, museum),
        (staff, {"machines": "/machines/", "operations": "/operations/", "running": museum[State.RUNNING]}),
        (None, {path: path for path in STRANGERS}),
    ]
    for user, rooms in looked_at:
        visitor = visitors(user, width=width, dark=dark)
        for name, path in rooms.items():
            page = visitor.open(path)
            found = Axe().run(page)
            assert found.violations_count == 0, f"{name}: {found.generate_report()}"
            assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), f"{name} is wider than the window"
            assert page.evaluate("window.shift") < SHIFT_BUDGET, f"{name} moves after it was painted: {page.evaluate('window.moved')}"
            assert page.locator("h1").count() == 1, name
        assert [text for text in visitor.complaints if not re.search(r"status of 40[34]|inline style", text)] == []  # axe itself writes styles


def test_a_first_visit_is_small(visitors, museum, owner):
    for name in ("mine", State.RUNNING, "history"):
        visitor, sizes = visitors(owner), {}
        visitor.page.on(
            "requestfinished",
            lambda request, sizes=sizes: sizes.update({request.url: sum(request.sizes()[part] for part in ("responseBodySize", "responseHeadersSize"))}),
        )
        visitor.open(museum[name])
        visitor.page.wait_for_load_state("networkidle")
        assert len(sizes) > 5 and sum(sizes.values()) < SIZE_BUDGET, sizes


def test_light_and_dark_follow_the_system_until_one_chooses(visitors, machine, owner):
    visitor = visitors(owner, dark=True)
    page = visitor.open("/")
    root = page.locator("html")
    expect(root).to_have_attribute("data-bs-theme", "dark")
    page.emulate_media(color_scheme="light")
    expect(root).to_have_attribute("data-bs-theme", "light")
    page.locator("[data-theme-switch]").click()
    page.reload()
    expect(root).to_have_attribute("data-bs-theme", "dark")


def test_everything_is_reached_by_keyboard(visitors, machine, owner):
    page = visitors(owner).open(page_of(machine))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    reached = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.innerText || document.activeElement.getAttribute('aria-label')"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none" or page.evaluate("document.activeElement === document.body")
    assert {"Start", "More for web-07", "Show user and password", "Take snapshot"} <= {str(word).strip() for word in reached}
