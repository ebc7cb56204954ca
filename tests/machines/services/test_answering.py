"""Which guests have booted, and whom the portal connects to for that."""

import socket
import threading
from contextlib import ExitStack, suppress
from datetime import timedelta

import pytest
from django.utils import timezone

from machines.lifecycle import State
from machines.models import Machine
from machines.services import answering
from machines.services.addresses import ForeignAddress, NoAddress, ssh_address
from tests.factories import make_cluster, make_machine


@pytest.fixture
def listen():
    """Opens ports that greet with what is given; None: accept and say nothing."""
    with ExitStack() as sockets:

        def open_port(greeting: bytes | None) -> tuple[str, int]:
            server = sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
            if greeting is not None:
                threading.Thread(target=serve, args=(server, greeting), daemon=True).start()
                sockets.callback(server.shutdown, socket.SHUT_RDWR)  # ends the thread's accept
            return server.getsockname()

        def serve(server: socket.socket, greeting: bytes) -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(greeting)

        yield open_port


def test_only_a_banner_counts(listen):
    ready, silent, other = listen(b"SSH-2.0-dropbear\r\n"), listen(None), listen(b"HTTP/1.1 400 Bad Request\r\n")
    closed = socket.create_server(("127.0.0.1", 0))
    gone = closed.getsockname()
    closed.close()
    assert answering.probe([ready, silent, other, gone], seconds=0.5) == {ready}


def test_a_banner_in_pieces_counts_and_half_a_banner_keeps_nobody_busy(monkeypatch):
    """A guest that says "SS" and no more must not be asked again and again."""
    selects, select = [], answering.selectors.DefaultSelector.select
    monkeypatch.setattr(answering.selectors.DefaultSelector, "select", lambda *given: selects.append(1) or select(*given))
    with socket.create_server(("127.0.0.1", 0)) as slow, socket.create_server(("127.0.0.1", 0)) as half:
        slow_one = threading.Event()

        def speak() -> None:
            talking, other = slow.accept()[0], half.accept()[0]
            with talking, other:
                other.sendall(b"SS")
                for piece in (b"S", b"SH", b"-2.0-x\r\n"):
                    talking.sendall(piece)
                slow_one.wait(10)

        threading.Thread(target=speak, daemon=True).start()
        assert answering.probe([slow.getsockname(), half.getsockname()], seconds=0.5) == {slow.getsockname()}
        slow_one.set()
    assert len(selects) < 20


@pytest.mark.django_db
def test_a_machine_answers_once_its_guest_greets(listen):
    host, port = listen(b"SSH-2.0-x\r\n")
    machine = make_machine(state=State.RUNNING, endpoints=[{"service": "ssh", "host": host, "port": port, "source": "forward"}])
    prober = answering.Prober()
    assert prober.look([machine.cluster_id]) == 1
    machine.refresh_from_db()
    assert machine.answering_since is not None
    assert prober.look([machine.cluster_id]) == 0


@pytest.mark.django_db
def test_a_machine_restarted_while_it_was_asked_may_still_boot(listen, monkeypatch):
    host, port = listen(b"SSH-2.0-x\r\n")
    machine = make_machine(state=State.RUNNING, endpoints=[{"service": "ssh", "host": host, "port": port, "source": "forward"}])
    real = answering.probe

    def then_restart(addresses):
        found = real(addresses)
        Machine.objects.update(state_since=timezone.now() + timedelta(seconds=1))
        return found

    monkeypatch.setattr(answering, "probe", then_restart)
    assert answering.Prober().look([machine.cluster_id]) == 0
    machine.refresh_from_db()
    assert machine.answering_since is None


@pytest.mark.django_db
def test_a_silent_machine_is_asked_less_and_less_and_others_not_at_all(monkeypatch):
    asked = []
    monkeypatch.setattr(answering, "probe", lambda addresses: asked.append(sorted(addresses)) or set())
    place = {"service": "ssh", "host": "127.0.0.1", "port": 2222, "source": "forward"}
    machine = make_machine(state=State.RUNNING, endpoints=[place])
    Machine.objects.filter(pk=machine.pk).update(state_since=timezone.now() - timedelta(minutes=10))
    for state in (State.STOPPED, State.RESTARTING):
        make_machine(state=state, cluster=machine.cluster, endpoints=[place])
    make_machine(state=State.RUNNING, cluster=machine.cluster, endpoints=[{**place, "host": "169.254.169.254", "source": "agent"}])
    prober = answering.Prober()
    prober.look([machine.cluster_id])
    prober.look([machine.cluster_id])
    assert asked == [[("127.0.0.1", 2222)]]


def test_a_forward_is_trusted_and_a_claim_only_inside_the_networks():
    def place(host, source="agent", service="ssh", port=2222):
        return {"service": service, "host": host, "port": port, "source": source}

    networks = ["10.20.0.0/16", "fd00::/64"]
    assert ssh_address([place("10.20.0.9"), place("127.0.0.1", "forward")], networks) == ("127.0.0.1", 2222)
    assert ssh_address([place("10.20.0.9")], networks) == ("10.20.0.9", 22)
    for claim in ("10.21.0.9", "127.0.0.1", "169.254.169.254", "::1", "::ffff:10.20.0.9", "fe80::1%eth0", "metadata", "0.0.0.0"):
        with pytest.raises(ForeignAddress):
            ssh_address([place(claim)], networks)
    for none in ([], [place("10.20.0.9", service="rdp")]):
        with pytest.raises(NoAddress):
            ssh_address(none, networks)


@pytest.mark.django_db
@pytest.mark.parametrize("typo", [["192.0.2.5/24"], ["the lab"], [None], 5, {"network": "10.20.0.0/16"}])
def test_a_typo_in_the_networks_of_one_cluster_keeps_no_other_from_being_asked(listen, typo):
    host, port = listen(b"SSH-2.0-x\r\n")
    claim = {"service": "guest", "host": "192.0.2.7", "port": 0, "source": "agent"}
    wrong = make_machine(cluster=make_cluster("east", networks=typo), state=State.RUNNING, endpoints=[claim])
    machine = make_machine(cluster=make_cluster("west"), state=State.RUNNING, endpoints=[{"service": "ssh", "host": host, "port": port, "source": "forward"}])
    assert answering.Prober().look([wrong.cluster_id, machine.cluster_id]) == 1
