"""The XML of machines, and the label in it."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from machines.providers.libvirt_kvm.domain import Definition, Label, domain_name, mac_address, parse, vnc_port
from machines.providers.types import MachineIdentity

REF = "11111111-2222-3333-4444-555555abcdef"
IDENTITY = MachineIdentity(key=REF, name="web-07", portal="portal-1")
LABEL = Label(IDENTITY, template="template-debian.qcow2", ssh_port=20022, seed="abc")
DEFINITION = Definition(ref=REF, label=LABEL, cores=2, memory_mib=512, disk="/pool/d.qcow2", seed_disk="/pool/s.iso")


def element(definition: Definition) -> ET.Element:
    return ET.fromstring(definition.to_xml())


def arguments(definition: Definition) -> list[str]:
    return [argument.get("value", "") for argument in element(definition).iter("{http://libvirt.org/schemas/domain/qemu/1.0}arg")]


def test_what_the_machine_is_made_of() -> None:
    root = element(DEFINITION)
    assert root.findtext("uuid") == REF
    assert (root.findtext("vcpu"), root.findtext("memory"), root.find("memory").get("unit")) == ("2", "512", "MiB")
    disks = [(disk.find("source").get("file"), disk.find("driver").get("type"), disk.find("readonly") is not None) for disk in root.iter("disk")]
    assert disks == [("/pool/d.qcow2", "qcow2", False), ("/pool/s.iso", "raw", True)]
    assert root.find("devices/channel/target").get("name") == "org.qemu.guest_agent.0"


def test_emulation_has_a_small_translation_cache_and_kvm_none() -> None:
    emulated, accelerated = element(DEFINITION), element(replace(DEFINITION, accelerated=True))
    assert (emulated.get("type"), accelerated.get("type")) == ("qemu", "kvm")
    assert emulated.findtext("features/tcg/tb-cache") == "256"
    assert element(replace(DEFINITION, memory_mib=128)).findtext("features/tcg/tb-cache") == "64"
    assert accelerated.find("features/tcg") is None


def test_no_password_opens_the_screen_until_one_is_set() -> None:
    graphics = element(DEFINITION).find("devices/graphics")
    assert graphics.get("listen") == "127.0.0.1"
    assert graphics.get("passwd")
    assert graphics.get("passwdValidTo") == "1970-01-01T00:00:01"


def test_ssh_is_forwarded_from_loopback_alone() -> None:
    assert "user,id=labnet0,hostfwd=tcp:127.0.0.1:20022-:22" in arguments(DEFINITION)
    assert "user,id=labnet0,restrict=on,hostfwd=tcp:127.0.0.1:20022-:22" in arguments(replace(DEFINITION, network="isolated"))


def test_a_network_of_libvirts() -> None:
    definition = replace(DEFINITION, network="classroom")
    assert arguments(definition) == []
    interface = element(definition).find("devices/interface")
    assert interface.find("source").get("network") == "classroom"
    assert interface.find("mac").get("address") == mac_address(REF) == "52:54:00:ab:cd:ef"


def test_the_label_comes_back_as_it_was_written() -> None:
    for label in (LABEL, replace(LABEL, building_since=1732161600.0), Label(replace(IDENTITY, name="<&\"'> ü"))):
        assert Label.parse(label.to_xml()) == label
        found = parse(replace(DEFINITION, label=label).to_xml())
        assert found.label == label
        assert (found.cores, found.memory_mib) == (2, 512)


@pytest.mark.parametrize("text", ["", "<", "<machine/>", "<machine key='k'/>", "<machine portal='p'/>"])
def test_what_is_no_label(text: str) -> None:
    assert Label.parse(text) is None


def test_a_label_somebody_wrote_by_hand_does_no_harm() -> None:
    label = Label.parse("<machine key='k' portal='p' ssh-port='99999' building-since='soon'/>")
    assert label == Label(MachineIdentity(key="k", name="", portal="p"))


def test_a_label_belongs_to_one_key_of_one_portal() -> None:
    assert LABEL.belongs_to(IDENTITY)
    assert LABEL.belongs_to(replace(IDENTITY, name="renamed"))
    assert not LABEL.belongs_to(replace(IDENTITY, portal="portal-2"))
    assert not LABEL.belongs_to(replace(IDENTITY, key="other"))


def test_names_can_be_told_apart_and_are_safe() -> None:
    assert domain_name(IDENTITY, REF) == "web-07-11111111"
    assert domain_name(replace(IDENTITY, name="../a b<c>\n"), REF) == "..abc-11111111"


def test_the_port_of_the_screen() -> None:
    assert vnc_port("<domain><devices><graphics type='vnc' port='5903'/></devices></domain>") == 5903
    assert vnc_port("<domain><devices><graphics type='vnc' port='-1'/></devices></domain>") == 0
    assert vnc_port("<domain><devices/></domain>") == 0
