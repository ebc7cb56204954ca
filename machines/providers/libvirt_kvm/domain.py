"""The XML of a machine: written with ElementTree, read back with care.

Our label is an element of ours in <metadata>. Everything the provider has to remember of a
machine is in it, so that any process, on any host, finds it again.
"""

import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from machines.providers.types import MachineIdentity

NAMESPACE = "urn:labportal:machine:1"
_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
USER_NETWORK, ISOLATED_NETWORK = "user", "isolated"  # QEMU's own; the second lets nothing out
FORWARDING_NETWORKS = (USER_NETWORK, ISOLATED_NETWORK)
ET.register_namespace("lab", NAMESPACE)
ET.register_namespace("qemu", _QEMU)


@dataclass(frozen=True, slots=True)
class Label:
    """What the metadata element says. `building_since`: its disk is being copied since then, and
    not whole yet (seconds since the epoch; 0: it is whole)."""

    identity: MachineIdentity
    template: str = ""
    ssh_port: int = 0  # of the host, forwarded to the guest's 22; 0: none
    seed: str = ""  # digest of the seed the guest was given
    building_since: float = 0.0

    def belongs_to(self, identity: MachineIdentity) -> bool:
        return (self.identity.key, self.identity.portal) == (identity.key, identity.portal)

    def to_xml(self) -> str:
        return ET.tostring(self.element(), encoding="unicode")

    def element(self) -> ET.Element:
        return ET.Element(
            f"{{{NAMESPACE}}}machine",
            {
                "key": self.identity.key,
                "name": self.identity.name,
                "portal": self.identity.portal,
                "template": self.template,
                "ssh-port": str(self.ssh_port),
                "seed": self.seed,
                "building-since": f"{self.building_since:.0f}",
            },
        )

    @classmethod
    def parse(cls, text: str) -> "Label | None":
        """None where the text is no label of any portal."""
        try:
            element = ET.fromstring(text)  # noqa: S314 - libvirt's own
        except ET.ParseError:
            return None
        return cls.of(element)

    @classmethod
    def of(cls, element: ET.Element) -> "Label | None":
        key, portal = element.get("key", ""), element.get("portal", "")
        port, since = element.get("ssh-port", "0"), element.get("building-since", "0")
        if not key or not portal:
            return None
        return cls(
            MachineIdentity(key=key, name=element.get("name", ""), portal=portal),
            template=element.get("template", ""),
            ssh_port=int(port) if port.isdecimal() and int(port) < 65536 else 0,
            seed=element.get("seed", ""),
            building_since=float(since) if since.isdecimal() else 0.0,
        )


@dataclass(frozen=True, slots=True)
class Definition:
    """All that decides the XML of a machine."""

    ref: str
    label: Label
    cores: int
    memory_mib: int
    disk: str  # path on the hypervisor
    seed_disk: str = ""
    accelerated: bool = False
    network: str = USER_NETWORK  # one of FORWARDING_NETWORKS, or the name of a libvirt network
    vnc_listen: str = "127.0.0.1"

    def to_xml(self) -> str:
        root = ET.Element("domain", {"type": "kvm" if self.accelerated else "qemu"})
        _text(root, "name", domain_name(self.label.identity, self.ref))
        _text(root, "uuid", self.ref)
        ET.SubElement(root, "metadata").append(self.label.element())
        _text(root, "memory", str(self.memory_mib), unit="MiB")
        _text(root, "vcpu", str(self.cores))
        os = ET.SubElement(root, "os")
        _text(os, "type", "hvm", arch="x86_64", machine="pc")
        ET.SubElement(os, "boot", {"dev": "hd"})
        features = ET.SubElement(root, "features")
        ET.SubElement(features, "acpi")
        ET.SubElement(features, "apic")
        if self.accelerated:
            ET.SubElement(root, "cpu", {"mode": "host-model"})
        else:
            # The translation cache is 1 GiB by default, more than the guests themselves have.
            _text(ET.SubElement(features, "tcg"), "tb-cache", "64" if self.memory_mib <= 256 else "256", unit="MiB")
        ET.SubElement(root, "clock", {"offset": "utc"})
        _text(root, "on_poweroff", "destroy")
        _text(root, "on_reboot", "restart")
        _text(root, "on_crash", "destroy")
        devices = ET.SubElement(root, "devices")
        _disk(devices, self.disk, "qcow2", "vda")
        if self.seed_disk:
            ET.SubElement(_disk(devices, self.seed_disk, "raw", "vdb"), "readonly")
        ET.SubElement(devices, "controller", {"type": "usb", "model": "none"})
        serial = ET.SubElement(devices, "serial", {"type": "pty"})
        ET.SubElement(serial, "target", {"port": "0"})
        channel = ET.SubElement(devices, "channel", {"type": "unix"})
        ET.SubElement(channel, "target", {"type": "virtio", "name": "org.qemu.guest_agent.0"})
        _text(ET.SubElement(devices, "rng", {"model": "virtio"}), "backend", "/dev/urandom", model="random")
        # No password opens it until open_console sets one that soon ends.
        ET.SubElement(
            devices,
            "graphics",
            {"type": "vnc", "port": "-1", "autoport": "yes", "listen": self.vnc_listen, "passwd": "closed", "passwdValidTo": "1970-01-01T00:00:01"},
        )
        ET.SubElement(ET.SubElement(devices, "video"), "model", {"type": "vga", "vram": "16384", "heads": "1"})
        ET.SubElement(devices, "memballoon", {"model": "virtio"})
        if self.network in FORWARDING_NETWORKS:
            self._user_network(root)
        else:
            interface = ET.SubElement(devices, "interface", {"type": "network"})
            ET.SubElement(interface, "mac", {"address": mac_address(self.ref)})
            ET.SubElement(interface, "source", {"network": self.network})
            ET.SubElement(interface, "model", {"type": "virtio"})
        return ET.tostring(root, encoding="unicode")

    def _user_network(self, root: ET.Element) -> None:
        """QEMU's own network with a port of the host forwarded to SSH. libvirt knows no forwarding
        for it before 10.x, hence the arguments; the slot is one libvirt does not hand out itself."""
        commandline = ET.SubElement(root, f"{{{_QEMU}}}commandline")
        forward = f",hostfwd=tcp:127.0.0.1:{self.label.ssh_port}-:22" if self.label.ssh_port else ""
        device = f'{{"driver":"virtio-net-pci","netdev":"labnet0","mac":"{mac_address(self.ref)}","romfile":"","bus":"pci.0","addr":"0x1e"}}'
        restricted = ",restrict=on" if self.network == ISOLATED_NETWORK else ""
        for value in ("-netdev", f"user,id=labnet0{restricted}{forward}", "-device", device):
            ET.SubElement(commandline, f"{{{_QEMU}}}arg", {"value": value})


@dataclass(frozen=True, slots=True)
class Defined:
    """What a machine's XML says it is."""

    cores: int
    memory_mib: int
    label: Label | None


def parse(xml: str) -> Defined:
    root = ET.fromstring(xml)  # noqa: S314 - libvirt's own
    element = root.find(f"metadata/{{{NAMESPACE}}}machine")
    memory = root.find("memory")
    units = {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024, "b": 1 / 1048576, "bytes": 1 / 1048576}
    mib = int(float(memory.text or 0) * units.get(memory.get("unit", "KiB"), 1 / 1024)) if memory is not None else 0
    return Defined(cores=int(root.findtext("vcpu") or 0), memory_mib=mib, label=Label.of(element) if element is not None else None)


def vnc_port(live_xml: str) -> int:
    """The port of the running machine's VNC server, 0 where it has none."""
    graphics = ET.fromstring(live_xml).find("devices/graphics[@type='vnc']")  # noqa: S314 - libvirt's own
    port = graphics.get("port", "0") if graphics is not None else "0"
    return int(port) if port.isdecimal() else 0


def vnc_password_xml(listen: str, password: str, valid_to: str) -> str:
    attributes = {"type": "vnc", "port": "-1", "autoport": "yes", "listen": listen, "passwd": password, "passwdValidTo": valid_to}
    return ET.tostring(ET.Element("graphics", attributes), encoding="unicode")


def snapshot_xml(name: str) -> str:
    root = ET.Element("domainsnapshot")
    _text(root, "name", name)
    return ET.tostring(root, encoding="unicode")


def existing_snapshot_xml(name: str, domain_xml: str) -> str:
    """For telling libvirt of a snapshot that is in the disk already, taken while the machine was off."""
    root = ET.Element("domainsnapshot")
    _text(root, "name", name)
    _text(root, "state", "shutoff")
    _text(root, "creationTime", "0")
    ET.SubElement(root, "memory", {"snapshot": "no"})
    disks = ET.SubElement(root, "disks")
    ET.SubElement(disks, "disk", {"name": "vda", "snapshot": "internal"})
    ET.SubElement(disks, "disk", {"name": "vdb", "snapshot": "no"})
    root.append(ET.fromstring(domain_xml))  # noqa: S314 - libvirt's own
    return ET.tostring(root, encoding="unicode")


def snapshot_facts(xml: str) -> tuple[float, bool]:
    """When it was taken, in seconds since the epoch, and whether the memory is in it."""
    root = ET.fromstring(xml)  # noqa: S314 - libvirt's own
    return float(root.findtext("creationTime") or 0), root.findtext("state") == "running"


def domain_name(identity: MachineIdentity, ref: str) -> str:
    """Unique on the host, and still to be recognised by people in virsh."""
    safe = "".join(letter for letter in identity.name if letter.isalnum() or letter in "-_.")[:50]
    return f"{safe}-{ref[:8]}"


def mac_address(ref: str) -> str:
    tail = uuid.UUID(ref).bytes[-3:]
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in tail)


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _disk(devices: ET.Element, path: str, kind: str, target: str) -> ET.Element:
    disk = ET.SubElement(devices, "disk", {"type": "file", "device": "disk"})
    driver = {"name": "qemu", "type": kind}
    if kind == "qcow2":
        driver["discard"] = "unmap"
    ET.SubElement(disk, "driver", driver)
    ET.SubElement(disk, "source", {"file": path})
    ET.SubElement(disk, "target", {"dev": target, "bus": "virtio"})
    return disk
