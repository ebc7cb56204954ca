"""Consoles of a Proxmox VE cluster in Chromium: a machine's screen, and a container's terminal."""

import re

import pytest

from tests.factories import make_user
from tests.proxmox.running import running_cluster
from tests.web import wait

from .proxmox import VM, make_container, make_pve, make_vm, populate
from .window import colours, expect, says, size_in, windows

pytestmark = pytest.mark.browser


@pytest.fixture
def fake():
    with running_cluster(time_scale=0) as cluster:
        populate(cluster)
        yield cluster


@pytest.fixture
def ada(file_database):
    return make_user("ada")


@pytest.fixture
def cluster(file_database, fake):
    return make_pve(fake)


@pytest.fixture
def machine(fake, cluster, ada):
    return make_vm(fake, cluster, ada)


@pytest.fixture
def container(fake, cluster, ada):
    return make_container(fake, cluster, ada)


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
