"""Which templates a cluster has, and which it only may have."""

import time

import pytest

from machines.providers.proxmox import templates
from machines.providers.types import TemplateInfo

from .desk import Desk

OS_TEMPLATE = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
CONTENT = "/nodes/{node}/storage/{storage}/content"


@pytest.fixture(autouse=True)
def told(desk: Desk) -> None:
    desk.control.tell_statistics()


def listed(provider: object) -> dict[str, TemplateInfo]:
    return {template.ref: template for template in provider.templates()}


def test_a_template_says_its_own_size(desk: Desk) -> None:
    template = next(template for template in desk.provider.templates() if template.ref == "9000")
    assert (template.cores, template.memory_mib) == (1, 1024)


def test_a_template_says_where_it_is_cloned(desk: Desk) -> None:
    found = listed(desk.provider)
    assert (found["9000"].node, found["9000"].storage) == ("pve1", "pve1/local-lvm")
    assert (found["9001"].node, found["9001"].storage) == ("pve1", "shared")
    assert (found[OS_TEMPLATE].node, found[OS_TEMPLATE].storage) == ("", "")  # where there is room
    found = listed(desk.another(template_copies={"9000": [9001, 424242]}))
    assert "9001" not in found
    assert (found["9000"].node, found["9000"].storage) == ("pve1", "pve1/local-lvm + shared")


def test_what_is_on_a_storage_that_does_not_answer_may_be_there(desk: Desk) -> None:
    assert OS_TEMPLATE in listed(desk.provider)
    assert not desk.provider.may_have_template(OS_TEMPLATE + "x")
    desk.control.fault("GET", CONTENT, status=596, times=50)
    assert set(listed(desk.provider)) == {"9000", "9001", "9100", "9101"}
    assert desk.provider.may_have_template(OS_TEMPLATE) and not desk.provider.may_have_template("8000")


def test_what_is_on_a_node_that_is_off_may_be_there(desk: Desk) -> None:
    desk.control.node("pve1", online=False)
    try:
        found = listed(desk.another())
        assert "9000" not in found and OS_TEMPLATE in found
        provider = desk.another()
        listed(provider)
        assert provider.may_have_template("9000") and not provider.may_have_template("8000")
    finally:
        desk.control.node("pve1", online=True)


def test_what_cannot_be_read_now_may_be_there(desk: Desk) -> None:
    desk.control.fault("GET", "/nodes/pve1/qemu/9000/config", status=596, times=2)  # at both endpoints
    provider = desk.another()
    assert "9000" not in listed(provider) and provider.may_have_template("9000")


def test_a_storage_that_hangs_is_not_waited_for_long(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "LOOK_SECONDS", 1.2)
    desk.control.fault("GET", "/nodes/pve1/storage/local/content", hang=True)
    began = time.monotonic()
    found = listed(desk.provider)
    assert time.monotonic() - began < 5
    assert {"9000", OS_TEMPLATE} <= set(found)  # told by the other nodes
