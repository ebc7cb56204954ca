"""Consoles of a Proxmox VE cluster in Chromium: a machine's screen, and a container's terminal."""

import re

import pytest

from machines.lifecycle import State
from tests.factories import make_cluster, make_machine, make_template, make_user
from tests.proxmox.running import running_cluster
from tests.web import WebProcess, wait

from .window import colours, expect, says, size_in, windows

pytestmark = pytest.mark.browser

VM, CONTAINER = 100001, 100002


@pytest.fixture
def fake():
    with running_cluster(time_scale=0) as cluster:
        cluster.control.add_vm(VM, "web", node="pve1", pool=cluster.pool, status="running")
        cluster.control.add_ct(CONTAINER, "box", node="pve1", pool=cluster.pool, status="running")
        yield cluster


@pytest.fixture
def portal(file_database, collected, tmp_path):
    portal = WebProcess(tmp_path, collected, DJANGO_SETTINGS_MODULE="tests.console.proxmox_settings")
    portal.start()
    yield portal
    portal.kill()


@pytest.fixture
def ada(file_database):
    return make_user("ada")


@pytest.fixture
def cluster(file_database, fake):
    return make_cluster("pve", kind="proxmox", config=fake.config(), secret=fake.token_secret)


@pytest.fixture
def machine(cluster, ada):
    return make_machine("web", owner=ada, ref=str(VM), state=State.RUNNING, template=make_template(cluster, ref="9000"))


@pytest.fixture
def container(cluster, ada):
    template = make_template(cluster, ref="9100", kind="container", seeded=False)
    return make_machine("box", owner=ada, ref=str(CONTAINER), state=State.RUNNING, template=template)


@pytest.fixture
def window(chromium, portal, ada):
    with windows(chromium, portal, ada) as window:
        yield window


def test_a_screen_shows_pixels_takes_keys_and_follows_the_machine_to_another_node(window, machine, fake):
    shown = window()
    page = shown.connected_to("screen", machine)
    page.wait_for_function("() => document.querySelector('#screen canvas').width === 320")
    wait(lambda: colours(page) > 1)
    page.locator("#screen canvas").focus()
    page.keyboard.type("ls")
    wait(lambda: fake.control.console(VM)["keys"] == [ord("l"), ord("s")])
    shown.picture("proxmox-screen")

    fake.control.change_guest(VM, node="pve2")
    expect(page.locator("#notice-title")).to_contain_text("Reconnecting…")
    shown.connected()
    page.locator("#screen canvas").focus()
    page.keyboard.type("x")
    wait(lambda: fake.control.console(VM)["keys"] == [ord("l"), ord("s"), ord("x")])
    shown.clean()


def size_told(page):
    """By the guest, asked anew each time."""
    page.keyboard.type("stty\n")
    expect(page.locator("#terminal .xterm-rows")).to_contain_text(re.compile(r"\d+\s\d+"))
    return size_in(page)


def test_a_containers_terminal_echoes_and_resizes(window, container, fake):
    shown = window()
    page = shown.connected_to("terminal", container)
    page.keyboard.type("whoami\n")
    says(page, "root")
    rows, columns = size_told(page)
    page.set_viewport_size({"width": 700, "height": 500})
    wait(lambda: all(after < before for after, before in zip(size_told(page), (rows, columns), strict=True)))
    shown.picture("proxmox-terminal")
    shown.clean()
