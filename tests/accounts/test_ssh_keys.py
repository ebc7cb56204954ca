"""Public keys of people: what is taken for one, and what never is."""

import base64
import logging

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import AuditEntry
from accounts.services import ssh_keys
from accounts.services.ssh_keys import KeyRefused
from tests.factories import make_user

pytestmark = pytest.mark.django_db

# The fingerprint is what `ssh-keygen -l` prints of it.
KNOWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
FINGERPRINT = "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA"


def public(private):
    return private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def blob(*parts):
    return base64.b64encode(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).decode()


def on_device(kind=b"sk-ssh-ed25519@openssh.com", application=b"ssh:"):
    raw = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"{kind.decode()} {blob(kind, raw, application)}"


def ecdsa_on_device():
    point = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    kind = b"sk-ecdsa-sha2-nistp256@openssh.com"
    return f"{kind.decode()} {blob(kind, b'nistp256', point, b'ssh:')}"


@pytest.fixture(scope="module")
def secret():
    private = ed25519.Ed25519PrivateKey.generate()
    return private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


@pytest.mark.parametrize(
    "make",
    [
        lambda: public(ed25519.Ed25519PrivateKey.generate()),
        lambda: public(ec.generate_private_key(ec.SECP256R1())),
        lambda: public(ec.generate_private_key(ec.SECP521R1())),
        lambda: public(rsa.generate_private_key(65537, 2048)),
        on_device,
        ecdsa_on_device,
    ],
    ids=["ed25519", "nistp256", "nistp521", "rsa", "sk-ed25519", "sk-ecdsa"],
)
def test_keys_of_today_are_taken_and_their_comment_names_them(make):
    text = make()
    key = ssh_keys.read(f"  {text} ada@laptop of hers\n")
    assert (key.text, key.comment) == (text, "ada@laptop of hers")
    assert key.fingerprint.startswith("SHA256:") and len(key.fingerprint) == 50


def test_a_fingerprint_is_that_of_ssh_keygen():
    assert ssh_keys.read(KNOWN).fingerprint == FINGERPRINT


@pytest.mark.parametrize(
    "given",
    [
        "",
        "hello",
        "ssh-ed25519",
        "ssh-ed25519 ????",
        KNOWN[:-8],
        KNOWN.replace("ssh-ed25519 ", "ssh-rsa "),
        f'command="rm -rf /" {KNOWN}',
        f'no-pty,command="sh" {KNOWN}',
        f"{KNOWN}\n{KNOWN}",
        f"{KNOWN} comment\rssh-ed25519 AAAA",
        f"{KNOWN} comment\u2028next",
        f"cert-authority {KNOWN}",
        f"{KNOWN}{' ' * 20_000}x",
        f"ssh-ed25519-cert-v01@openssh.com {blob(b'ssh-ed25519-cert-v01@openssh.com', b'x')}",
        f"sk-ssh-ed25519@openssh.com {blob(b'sk-ssh-ed25519@openssh.com', b'short', b'ssh:')}",
        on_device(application=b""),
        "sk-ssh-ed25519@openssh.com /////3g=",  # a length beyond its end
        "---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----",
    ],
)
def test_what_is_no_plain_public_key_is_refused(given):
    with pytest.raises(KeyRefused) as refused:
        ssh_keys.read(given)
    assert "rm -rf" not in refused.value.message


def test_weak_keys_are_refused():
    with pytest.raises(KeyRefused, match="1024 bits"):
        ssh_keys.read(public(rsa.generate_private_key(65537, 1024)))
    with pytest.raises(KeyRefused, match="no public key that machines take"):
        ssh_keys.read(f"ssh-dss {blob(b'ssh-dss', b'x')}")


def test_a_comment_brings_no_control_characters():
    assert ssh_keys.read(f"{KNOWN} ada\x1b[31m\u202eb").comment == "ada[31mb"


# -- the page ------------------------------------------------------------------------------------


@pytest.fixture
def ada(client):
    user = make_user("ada")
    client.force_login(user)
    return user


PAGE = "accounts:ssh_keys"


def test_a_key_is_pasted_shown_by_its_fingerprint_and_removed(client, ada):
    text = client.post(reverse(PAGE), {"text": f"{KNOWN} ada@laptop"}, follow=True).content.decode()
    assert "ada@laptop" in text and FINGERPRINT in text
    key = ada.ssh_keys.get()
    assert key.text == KNOWN
    client.post(reverse("accounts:remove_ssh_key", args=[key.pk]))
    assert not ada.ssh_keys.exists()
    assert list(AuditEntry.objects.filter(object_type="sshkey").values_list("action", flat=True)) == ["ssh_key.remove", "ssh_key.add"]


def test_a_key_comes_as_a_file(client, ada):
    client.post(reverse(PAGE), {"name": "Desk", "file": SimpleUploadedFile("id.pub", f"{KNOWN} x\n".encode())})
    assert ada.ssh_keys.get().name == "Desk"


@pytest.mark.parametrize(
    ("content", "why"), [(b"x" * 20_000, "too long"), (b"", "choose its file"), (b"\xff\xfe\x00", "no public key"), (b"ssh-ed25519 \xff", "damaged")]
)
def test_a_file_that_is_no_key_is_refused(client, ada, content, why):
    assert why in client.post(reverse(PAGE), {"file": SimpleUploadedFile("id.pub", content)}).content.decode()
    assert not ada.ssh_keys.exists()


@pytest.mark.parametrize("as_file", [False, True])
def test_a_private_key_is_refused_and_never_seen_again(client, ada, secret, caplog, as_file):
    caplog.set_level(logging.DEBUG)
    data = {"file": SimpleUploadedFile("id", secret.encode())} if as_file else {"text": secret}
    text = client.post(reverse(PAGE), data).content.decode()
    assert "This is a private key" in text
    middle = secret.splitlines()[1]
    assert middle not in text and middle not in caplog.text
    assert not ada.ssh_keys.exists() and not AuditEntry.objects.filter(action="ssh_key.add").exists()


def test_the_same_key_is_kept_once_and_no_more_than_twenty(client, ada):
    for _ in range(2):
        answer = client.post(reverse(PAGE), {"text": KNOWN})
    assert "You have this key already." in answer.content.decode()
    for _ in range(ssh_keys.MOST - 1):
        ssh_keys.add(ada, given=public(ed25519.Ed25519PrivateKey.generate()))
    assert "which is the most" in client.post(reverse(PAGE), {"text": public(ed25519.Ed25519PrivateKey.generate())}).content.decode()
    assert ada.ssh_keys.count() == ssh_keys.MOST


def test_the_key_of_somebody_else_is_not_there(client, ada):
    key = ssh_keys.add(make_user("bob"), given=KNOWN)
    assert client.post(reverse("accounts:remove_ssh_key", args=[key.pk])).status_code == 404
    assert FINGERPRINT not in client.get(reverse(PAGE)).content.decode()


def test_the_page_costs_the_same_with_many_keys(client, ada, django_assert_num_queries):
    with CaptureQueriesContext(connection) as few:
        client.get(reverse(PAGE))
    for _ in range(5):
        ssh_keys.add(ada, given=public(ed25519.Ed25519PrivateKey.generate()))
    with django_assert_num_queries(len(few)):
        client.get(reverse(PAGE))
