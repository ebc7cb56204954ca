"""Both consoles in Chromium, against the screens and shells of the simulator. The whole way is
real: pages, tickets, WebSockets, relay, RFB and SSH; no inline style or script is ever refused."""

import pytest
from django.conf import settings

from accounts.forms import KEYBOARDS
from console.models import ConsoleTicket
from machines.lifecycle import State
from machines.models import Machine
from machines.providers.simulator.machine import TEMPLATES
from machines.providers.types import MachineIdentity, MachineSpec, Seed, StopMode
from machines.services import credentials
from machines.services.feed import machine_topics, publish
from tests.factories import make_cluster, make_machine, make_template, make_user
from tests.machines.providers.simulator.running import simulator
from tests.web import wait

from .window import SOON, colours, expect, says, size_in, windows

pytestmark = pytest.mark.browser


@pytest.fixture
def cluster():
    with simulator() as simulated:
        yield simulated


@pytest.fixture
def machine(file_database, cluster):
    """A simulated machine that is on and has booted, as the engine would have left it."""
    made = credentials.make("web-07")
    owner = make_user("ada", keyboard="de")
    row = make_machine(
        "web-07",
        owner=owner,
        template=make_template(make_cluster(config=cluster.config)),
        state=State.RUNNING,
        password=made.password,
        ssh_private_key=made.ssh_private_key,
        ssh_public_key=made.ssh_public_key,
    )
    power(cluster, row, on=True)
    return row


def identity(row):
    return MachineIdentity(key=str(row.key), name=row.name, portal=settings.PORTAL_ID)


def power(cluster, row, *, on):
    """Do at the cluster, and see in the database, what engine and watcher do."""
    provider = cluster.provider(settings.PORTAL_ID)
    try:
        (_switch_on if on else _switch_off)(provider, cluster, row)
    finally:
        provider.close()


def _switch_on(provider, cluster, row):
    seed = Seed(hostname=row.name, username=row.username, password=row.password, ssh_keys=(row.ssh_public_key,))
    spec = MachineSpec(template=TEMPLATES[0].ref, cores=1, memory_mib=512, seed=seed)
    for begin in (lambda: provider.begin_create(identity(row), row.ref, spec), lambda: provider.begin_start(identity(row), row.ref)):
        task = begin()
        wait(lambda task=task: task is None or provider.poll([task])[task].state == "succeeded")
    wait(lambda: any(one["ref"] == row.ref and one["booted"] for one in cluster.control.machines()))
    (seen,) = provider.inventory().machines
    endpoints = [{"service": one.service, "host": one.host, "port": one.port, "source": one.source} for one in seen.endpoints]
    see(row, state=State.RUNNING, power="on", endpoints=endpoints)


def _switch_off(provider, cluster, row):
    provider.begin_stop(identity(row), row.ref, StopMode.FORCE)
    wait(lambda: all(one["power"] == "off" for one in cluster.control.machines()))
    see(row, state=State.STOPPED, power="off")


def see(row, **seen):
    """What the watcher writes, and tells pages of."""
    Machine.objects.filter(pk=row.pk).update(**seen)
    publish(*machine_topics(row))


@pytest.fixture
def window(chromium, portal, machine):
    """Opens windows: window(width=…, dark=…)."""
    with windows(chromium, portal, machine.owner) as window:
        yield window


def sign_in_on_the_screen(page, row):
    page.locator("#screen canvas").focus()
    page.keyboard.type(f"{row.username}\n", delay=5)
    page.keyboard.type(f"{row.password}\n", delay=5)


def test_the_screen_shows_pixels_and_takes_what_is_typed_and_pasted(window, machine):
    shown = window()
    page = shown.connected_to("screen", machine)
    expect(page.locator("#screen canvas")).to_have_attribute("aria-label", "Screen of web-07")
    assert colours(page) > 1
    sign_in_on_the_screen(page, machine)
    page.keyboard.type("echo typed > typed\n", delay=5)

    page.mouse.move(700, 1)
    page.locator("#paste-open").click()
    page.locator("#paste-text").fill("echo 'a@b {c} |~^\\' > pasted\n")
    page.locator("#paste-send").click()
    expect(page.locator("#paste")).to_be_hidden(timeout=SOON)
    shown.picture("screen-1440-light")
    shown.clean()

    page = shown.connected_to("terminal", machine)
    page.keyboard.type("cat typed pasted\n")
    says(page, "typed")
    says(page, "a@b {c} |~^\\")
    shown.clean()


def test_the_terminal_answers_resizes_and_copies(window, machine):
    shown = window()
    page = shown.connected_to("terminal", machine)
    page.keyboard.type("stty size; echo m'easu'red\n")
    says(page, "measured")
    before = size_in(page)
    page.set_viewport_size({"width": 700, "height": 500})
    page.keyboard.type("clear\n")
    page.keyboard.type("stty size; echo d'o'ne\n")
    says(page, "done")
    after = size_in(page)
    assert after[0] < before[0] and after[1] < before[1]

    page.evaluate("navigator.clipboard.writeText('echo from the clipboard')")
    page.keyboard.press("Control+Shift+V")
    says(page, "echo from the clipboard")
    page.locator("#terminal .xterm-screen").dblclick(position={"x": 20, "y": 8})  # a word of the first line
    page.keyboard.press("Control+Shift+C")
    expect(page.locator("#status")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == f"{machine.username}@web-07:~$"
    shown.clean()


def test_a_long_paste_arrives_whole(window, machine):
    shown = window()
    page = shown.connected_to("terminal", machine)
    page.locator("#paste-open").click()
    page.locator("#paste-text").fill("".join(f"echo line-{number} >> lines\n" for number in range(500)))
    page.locator("#paste-send").click()
    expect(page.locator("#paste")).to_be_hidden(timeout=SOON)
    page.keyboard.type("clear; cat lines\n")
    says(page, "line-499")
    shown.clean()


def test_a_flood_can_be_stopped(window, machine):
    """The page acknowledges what it has drawn, so ^C is not behind minutes of output."""
    shown = window()
    page = shown.connected_to("terminal", machine)
    page.keyboard.type("flood\n")
    says(page, "ABCDEFGHIJ")
    page.keyboard.press("Control+C")
    page.keyboard.type("clear; echo still h'e're\n")
    says(page, "still here")
    shown.clean()


def test_colours_of_24_bits_are_drawn_under_the_policy(window, machine):
    """xterm.js writes them as style attributes, which the policy refuses; ours go through the CSSOM."""
    shown = window()
    page = shown.connected_to("terminal", machine)
    drawn = page.evaluate(
        """async () => {
            const { Terminal } = await import("/static/vendor/xterm.js");
            const place = document.body.appendChild(document.createElement("div"));
            const terminal = new Terminal();
            terminal.open(place);
            await new Promise((done) => terminal.write("\\x1b[38;2;1;2;3;48;2;250;251;252mcoloured", done));
            await new Promise((done) => { const look = () => (place.innerText.includes("coloured") ? done() : requestAnimationFrame(look)); look(); });
            const span = [...place.querySelectorAll("span")].find((each) => each.innerText.startsWith("coloured"));
            return [getComputedStyle(span).color, getComputedStyle(span).backgroundColor];
        }"""
    )
    assert drawn == ["rgb(1, 2, 3)", "rgb(250, 251, 252)"]
    shown.clean()


def test_a_web_process_that_dies_is_waited_for(window, machine, portal):
    """The last picture stays, and the console comes back by itself with a new ticket."""
    shown = window()
    page = shown.connected_to("screen", machine)
    page.wait_for_function("() => document.querySelector('#screen canvas').width > 0")
    portal.kill()
    expect(page.locator("#notice-title")).to_contain_text("Reconnecting…")
    expect(page.locator("#last")).to_be_visible()
    expect(page.get_by_role("button", name="Reconnect now")).to_be_visible()
    portal.start()
    shown.connected()
    expect(page.locator("#notice")).to_be_hidden()
    expect(page.locator("#last")).to_be_hidden()
    assert colours(page) > 1
    assert ConsoleTicket.objects.filter(used_at__isnull=False).count() == 2
    shown.clean("ERR_CONNECTION", "WebSocket", "Failed when connecting", "htmx:")


def test_a_right_that_ends_is_not_tried_again(window, machine):
    shown = window()
    page = shown.connected_to("terminal", machine)
    Machine.objects.filter(pk=machine.pk).update(owner=make_user("eve"))
    expect(page.locator("#notice-title")).to_have_text("This console is closed.", timeout=SOON)
    expect(page.locator("#notice-text")).to_contain_text("you may not use this machine any more")
    expect(page.locator("#stage")).to_have_attribute("data-connection", "ended")
    shown.clean("404")


def test_the_keyboard_is_no_trap(window, machine):
    shown = window()
    page = shown.connected_to("screen", machine)
    canvas = page.locator("#screen canvas")
    expect(canvas).to_be_focused()
    expect(page.locator("#hint")).to_be_visible()
    page.keyboard.press("Tab")
    expect(canvas).to_be_focused()  # Tab belongs to the machine
    page.keyboard.press("Control+Alt+Shift")
    expect(canvas).not_to_be_focused()
    expect(page.locator("#bar :focus")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.locator("#bar :focus")).to_be_visible()
    shown.clean()


def test_another_keyboard_is_translated_to_the_machines_layout(window, machine):
    """The person's keys are US, the machine is set to German: "@" must be AltGr+Q there."""
    shown = window()
    page = shown.connected_to("screen", machine)
    sent = page.evaluate(
        """async () => {
            const { Keys } = await import("/static/labportal/js/console/keys.js");
            const keys = new Keys();
            const sent = [];
            keys.rfb = { sendKey: (keysym, code, down) => sent.push((down ? "+" : "-") + code) };
            keys.layout = "de";
            keys.translate(new KeyboardEvent("keydown", { key: "@", code: "Digit2", shiftKey: true }));
            keys.translate(new KeyboardEvent("keydown", { key: "z", code: "KeyZ" }));
            keys.translate(new KeyboardEvent("keydown", { key: "y", code: "KeyY", ctrlKey: true }));
            keys.translate(new KeyboardEvent("keydown", { key: "ArrowUp", code: "ArrowUp" }));
            return [sent.join(" "), keys.missing("aß한")];
        }"""
    )
    assert sent == [
        "+AltRight +KeyQ -KeyQ -AltRight +KeyY -KeyY +ControlLeft +KeyZ -KeyZ -ControlLeft +ArrowUp -ArrowUp",
        ["한"],
    ]


def test_a_phones_keyboard_types_too(window, machine):
    """Such a keyboard tells no keys, only how the text of a field changes."""
    shown = window(width=390, height=844, touch=True)
    page = shown.connected_to("screen", machine)
    page.locator("#touch-open").click()
    expect(page.locator("#touch")).to_be_focused()
    for line in (machine.username, machine.password, "echo touched > touchex"):
        page.keyboard.type(line, delay=5)
        if line.endswith("x"):
            page.keyboard.press("Backspace")
            page.keyboard.type("d")
        page.keyboard.press("Enter")
    page = shown.connected_to("terminal", machine)
    page.keyboard.type("cat touched\n")
    says(page, "cat touchedtouched")
    shown.clean()


def test_every_layout_has_a_key_for_every_ascii_character(window, machine):
    shown = window()
    page = shown.open("screen", machine, "?watch=1")
    missing = page.evaluate(
        """async () => {
            const { LAYOUTS, strokes } = await import("/static/labportal/js/console/layouts.js");
            const ascii = Array.from({ length: 95 }, (_, index) => String.fromCharCode(32 + index));
            return Object.fromEntries(LAYOUTS.map((layout) => [layout, ascii.filter((char) => !strokes(layout, char))]));
        }"""
    )
    assert missing == {code: [] for code, _ in KEYBOARDS}


def test_who_watches_sends_nothing(window, machine):
    """Nothing but what a picture needs leaves the browser; the relay would drop it, see tests/console/relay."""
    shown = window()
    sent = []
    shown.page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(data)) if "/console/" in socket.url else None)
    page = shown.connected_to("screen", machine, "?watch=1")
    expect(page.get_by_text("Watching: nothing you type is sent")).to_be_visible()
    assert ConsoleTicket.objects.get().view_only
    page.locator("#screen canvas").focus()
    page.keyboard.type("secret\n")
    page.mouse.click(400, 400)
    page.locator("#end").click()
    expect(page.locator("#notice-title")).to_have_text("This console is closed.")
    kinds = {data[0] for data in sent if len(data) > 1 and not data.startswith(b"RFB")}
    assert 3 in kinds and not kinds & {4, 5, 255}  # pictures asked for; no key, no pointer, no QEMU key
    shown.clean()


def test_a_console_is_ended_and_opened_again(window, machine):
    shown = window()
    page = shown.connected_to("terminal", machine)
    page.locator("#end").click()
    expect(page.locator("#notice-title")).to_have_text("This console is closed.")
    page.get_by_role("button", name="Open again").click()
    shown.connected()
    page.keyboard.type("exit\n")
    expect(page.locator("#notice-text")).to_have_text("The session has ended.", timeout=SOON)
    wait(lambda: ConsoleTicket.objects.filter(ended_at=None, used_at__isnull=False).count() == 0)
    assert sorted(ConsoleTicket.objects.values_list("ending", flat=True)) == ["exited", "left"]
    shown.clean()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_pictures(window, machine, width, height, dark):
    """For the eye; and nothing is wider than the window, nothing is refused."""
    shown = window(width=width, height=height, dark=dark, touch=width < 600)
    look = f"{width}-{'dark' if dark else 'light'}"
    page = shown.connected_to("terminal", machine)
    page.keyboard.type("help\n")
    says(page, "poweroff")
    expect(page.get_by_role("textbox", name="Terminal of web-07")).to_be_focused()
    shown.accessible()
    page.locator("#menu-view summary").click()
    shown.picture(f"terminal-{look}")
    page = shown.connected_to("screen", machine)
    for name in ("menu-keyboard", "menu-keys"):
        page.locator(f"#{name} summary").click()
        expect(page.locator(f"#{name} .menu-items")).to_be_in_viewport(ratio=0.99)
        shown.picture(f"screen-{name}-{look}")
        page.locator(f"#{name} summary").click()
    shown.accessible()
    page.locator("#paste-open").click()
    page.locator("#paste-text").fill("sudo apt install 한")
    shown.picture(f"screen-paste-{look}")
    page.locator("#paste-cancel").click()
    expect(page.locator("#bar")).to_be_hidden(timeout=SOON)
    shown.picture(f"screen-{look}")
    page.locator("#handle").click()
    expect(page.locator("#bar")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#end").click()
    expect(page.locator("#notice-title")).to_have_text("This console is closed.")
    shown.accessible()
    shown.picture(f"screen-ended-{look}")
    shown.clean()


def test_user_and_password_are_shown_over_the_console(window, machine):
    shown = window()
    page = shown.connected_to("screen", machine)
    page.mouse.move(700, 1)
    page.locator("#menu-more summary").click()
    page.get_by_role("button", name="Show user and password").click()
    expect(page.locator("#sign-in")).to_contain_text(machine.password)
    page.locator("#sign-in").get_by_role("button", name="Close").click()
    expect(page.locator("#sign-in-body")).to_be_empty()
    shown.clean()


def test_a_machine_that_is_off_says_so_starts_and_opens(window, machine, cluster):
    power(cluster, machine, on=False)
    shown = window()
    page = shown.open("screen", machine)
    expect(page.locator("#notice-title")).to_have_text("This machine is off.")
    shown.picture("screen-off-1440-light")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#console-state")).to_contain_text("Starting…")
    wait(lambda: Machine.objects.get().state == State.STARTING)
    power(cluster, machine, on=True)
    shown.connected()
    expect(page.locator("#notice")).to_be_hidden()
    assert colours(page) > 1
    shown.clean("409")
