"""Clusters out of a file: loaded twice they are there once, and nobody is trusted unseen."""

import json

import pytest
from django.core.management import CommandError, call_command

from machines.models import Cluster
from tests.console.relay.websocket_server import certificate
from tests.factories import make_cluster

pytestmark = pytest.mark.django_db


@pytest.fixture
def load(tmp_path):
    def load(*clusters):
        path = tmp_path / "clusters.json"
        path.write_text(json.dumps(clusters))
        call_command("load_clusters", str(path), verbosity=0)

    return load


LAB = {"id": "lab", "name": "Lab", "host": "pve1.example.org", "user": "labportal@pve", "token": "labportal@pve!portal=open sesame"}


def test_loaded_twice_a_cluster_is_there_once_and_keeps_what_staff_set_up(load):
    load(LAB)
    cluster = Cluster.objects.get()
    assert (cluster.kind, cluster.name, cluster.secret) == ("proxmox", "Lab", "open sesame")
    assert cluster.config["endpoints"] == ["pve1.example.org:8006"] and cluster.config["token_name"] == "portal" and cluster.config["tls"] == "system"
    cluster.config["pool"] = "labs"
    cluster.save()
    load({**LAB, "name": "Lab 2", "token": "", "password": "other"})
    cluster = Cluster.objects.get()
    assert (cluster.name, cluster.secret, cluster.config["token_name"], cluster.config["pool"]) == ("Lab 2", "other", "", "labs")


def test_beside_a_token_a_password_is_for_text_consoles(load):
    load({**LAB, "password": "for shells"})
    assert (Cluster.objects.get().secret, Cluster.objects.get().terminal_password) == ("open sesame", "for shells")
    load(LAB)
    assert Cluster.objects.get().terminal_password == "for shells"


def test_a_certificate_is_checked_by_its_fingerprint_or_not_at_all_loaded(load):
    with pytest.raises(CommandError, match="fingerprint"):
        load({**LAB, "verify_ssl": False})
    assert not Cluster.objects.exists()
    load({**LAB, "verify_ssl": False, "fingerprint": "ab" * 32})
    assert Cluster.objects.get().config["fingerprints"] == [":".join(["AB"] * 32)]


def test_whom_staff_trust_stays_where_the_file_says_nothing_of_it(load):
    load(LAB)
    for trusted in ({"tls": "fingerprint", "fingerprints": ["AB"]}, {"tls": "ca", "ca": "theirs"}):
        Cluster.objects.update(config={**Cluster.objects.get().config, **trusted})
        load(LAB)
        assert Cluster.objects.get().config["tls"] == trusted["tls"]
    load({**LAB, "verify_ssl": True})
    assert Cluster.objects.get().config["tls"] == "system"


def test_an_authority_is_given_as_text_or_as_a_file(load, tmp_path):
    pem = tmp_path / "pve-root-ca.pem"
    pem.write_text(certificate().pem)
    for given in (certificate().pem, str(pem)):
        load({**LAB, "ca": given})
        assert Cluster.objects.get().config["tls"] == "ca" and Cluster.objects.get().config["ca"] == certificate().pem
        Cluster.objects.all().delete()
    for wrong in (str(tmp_path / "none"), "-----BEGIN CERTIFICATE-----\nhello"):
        with pytest.raises(CommandError):
            load({**LAB, "ca": wrong})
    assert not Cluster.objects.exists()


@pytest.mark.parametrize("wrong", [{"host": "http://x"}, {"user": "root", "token": ""}, {"token": ""}, {"token": "open", "user": "a@pve"}, {"name": "x" * 61}])
def test_wrong_entries_are_told_and_nothing_is_loaded(load, wrong):
    with pytest.raises(CommandError):
        load({**LAB, "id": "first", "name": "First"}, {**LAB, **wrong})
    assert not Cluster.objects.exists()


def test_a_cluster_of_another_kind_is_left_alone(load):
    make_cluster("Lab", kind="libvirt")
    with pytest.raises(CommandError, match="no Proxmox VE"):
        load(LAB)
