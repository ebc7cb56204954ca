"""Whom the portal takes for the cluster."""

import hashlib
import socket
import ssl

import pytest

from machines.providers import notation
from machines.providers.errors import InvalidSpec, Unreachable
from machines.providers.proxmox import tls
from machines.providers.proxmox.breakers import Breakers


def der_of(cluster):
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", cluster.port)))


@pytest.mark.parametrize("written", ["ab" * 32, "AB:" * 31 + "AB", "sha256 " + "AB " * 32])
def test_fingerprints_are_known_however_they_are_written(written):
    assert notation.fingerprint(written) == "AB:" * 31 + "AB"


@pytest.mark.parametrize("written", ["", "ab" * 20, "zz" * 32, "ab" * 33])
def test_what_is_no_sha256_is_refused(written):
    with pytest.raises(InvalidSpec, match="SHA-256"):
        notation.fingerprint(written)


def test_the_fingerprint_can_be_fetched(cluster):
    assert tls.fingerprint_of("127.0.0.1", cluster.port) == notation.fingerprint(cluster.fingerprint)


def test_fetching_it_sends_no_request(cluster):
    cluster.control.reset_calls()
    tls.fingerprint_of("127.0.0.1", cluster.port)
    assert cluster.control.calls() == {}


def test_where_nothing_listens_there_is_none_to_fetch():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable):
            tls.fingerprint_of("127.0.0.1", unused.getsockname()[1], seconds=2)


def test_several_fingerprints_are_allowed(connect, cluster):
    client = connect(tls="fingerprint", fingerprints=["00" * 32, cluster.fingerprint])
    assert client.version


@pytest.mark.parametrize("account", [{}, {"token_name": ""}])
def test_a_changed_certificate_is_refused_before_anything_is_sent(connect, cluster, account):
    client = connect(tls="fingerprint", endpoints=cluster.endpoints[:1], **account)
    second = cluster.control.certificate("second")["fingerprint"]
    cluster.control.reset_calls()
    with pytest.raises(Unreachable) as refused:
        client.post("nodes/pve1/qemu/9000/clone", newid=100001)
    assert notation.fingerprint(second) in refused.value.message
    assert notation.fingerprint(cluster.fingerprint) in refused.value.message
    assert cluster.control.calls() == {}


def test_a_changed_certificate_that_the_authority_did_not_sign_is_refused(connect, cluster):
    client = connect(endpoints=cluster.endpoints[:1])
    cluster.control.certificate("second")
    cluster.control.reset_calls()
    with pytest.raises(Unreachable) as refused:
        client.get("version")
    assert "not trusted" in refused.value.message
    assert cluster.control.calls() == {}


def test_the_system_does_not_know_the_cluster(connect, cluster):
    with pytest.raises(Unreachable, match="not trusted"):
        connect(tls="system").get("version")


def test_new_settings_are_tried_at_once_although_the_old_ones_failed(connect, cluster):
    breakers = Breakers()
    with pytest.raises(Unreachable):
        connect(tls="fingerprint", fingerprints=["00" * 32], breakers=breakers).get("version")
    assert connect(tls="fingerprint", breakers=breakers).get("version")


def test_the_name_must_fit_unless_the_certificate_is_pinned(cluster):
    context = tls.Trust.of(cluster.config(tls="ca")).context()
    with socket.create_connection(("127.0.0.1", cluster.port)) as plain, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(plain, server_hostname="another.example.org")
    pinned = cluster.config(tls="fingerprint")
    with (
        socket.create_connection(("127.0.0.1", cluster.port)) as plain,
        tls.Trust.of(pinned).context().wrap_socket(plain, server_hostname="another.example.org") as secured,
    ):
        assert tls.Trust.of(pinned).matches(secured.getpeercert(binary_form=True))


def test_matching_after_a_handshake(cluster):
    der = der_of(cluster)
    pinned = cluster.config(tls="fingerprint")
    assert tls.Trust.of(pinned).matches(der)
    assert not tls.Trust.of(pinned).matches(der + b"x")
    assert not tls.Trust.of(pinned).matches(None)
    assert not tls.Trust.of(pinned).matches(b"")
    assert tls.of_der(der).replace(":", "").lower() == hashlib.sha256(der).hexdigest()


def test_a_nodes_own_certificate_may_be_given_in_place_of_its_authority(connect, cluster):
    pem = ssl.DER_cert_to_PEM_cert(der_of(cluster))
    assert connect(tls="ca", ca=pem).version
