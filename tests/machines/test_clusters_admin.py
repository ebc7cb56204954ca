"""Clusters in the admin: settings with a field each, wishes the watcher answers, machines adopted."""

import json
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from accounts.models import AuditEntry
from machines.models import BurnedRef, Cluster, ClusterReport, Machine, Tier
from machines.policies import offered_templates, tiers_of
from machines.providers.errors import InvalidSpec
from machines.services import checking
from machines.services.watch import ClusterErrands, ClusterWatch
from tests.factories import make_cluster, make_machine, make_template, make_user
from tests.machines.providers.fakes import FakeProvider

pytestmark = pytest.mark.django_db

ADD = "/admin/machines/cluster/add/?kind=proxmox"
PRINT = "ab" * 32


@pytest.fixture
def staff(client):
    user = make_user("sam", role="staff")
    client.force_login(user)
    return user


def form(**values):
    limits = {"limit_create": 4, "limit_power": 8, "limit_per_template": 4, "limit_booting": 0, "stop_deadline": 60}
    limits |= {"limit_create_per_node": 2, "limit_create_per_storage": 2, "limit_power_per_node": 4}
    told = {"kind": "proxmox", "name": "lab", "endpoints": "pve1.example.org\nhttps://pve2.example.org:8007/", "account": "labportal@pve!portal"}
    told |= {"new_secret": "open sesame", "tls": "fingerprint", "fingerprints": PRINT, "first_vmid": 5000, "last_vmid": 5999, "reserve_mib": 1024}
    told |= {"nodes": "pve1, pve2", "pool": "labs", "template_copies": "9000: 9001 9002", "networks": ""}
    return {**told, **limits, **values}


def page(cluster, rest="change"):
    return f"/admin/machines/cluster/{cluster.pk}/{rest}/"


def test_a_new_cluster_is_offered_limits_that_it_bears(client, staff):
    text = client.get(ADD).content.decode()
    assert re.search(r'name="limit_create_per_node" value="2"', text) and re.search(r'name="limit_power_per_node" value="4"', text)


def test_settings_are_written_from_fields_and_shown_in_them(client, staff):
    assert client.post(ADD, form()).status_code == 302
    cluster = Cluster.objects.get()
    assert cluster.kind == "proxmox" and cluster.secret == "open sesame"
    told = cluster.config
    assert told["endpoints"] == ["pve1.example.org:8006", "pve2.example.org:8007"]
    assert (told["user"], told["token_name"], told["vmids"], told["pool"]) == ("labportal@pve", "portal", [5000, 5999], "labs")
    assert told["fingerprints"] == [":".join(["AB"] * 32)] and told["nodes"] == ["pve1", "pve2"] and told["template_copies"] == {"9000": [9001, 9002]}
    assert "secret" not in json.dumps(told) and "sesame" not in json.dumps(told)
    text = client.get(page(cluster)).content.decode()
    assert "labportal@pve!portal" in text and "9000: 9001 9002" in text and "open sesame" not in text
    assert client.post(page(cluster), form(new_secret="", endpoints="pve1.example.org", pool="")).status_code == 302
    cluster.refresh_from_db()
    assert cluster.config["pool"] == "" and cluster.secret == "open sesame" and cluster.config["endpoints"] == ["pve1.example.org:8006"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"endpoints": "http://pve1"}, "is not a host and a port"),
        ({"endpoints": "pve1:99999"}, "is not a host and a port"),
        ({"endpoints": "pve1@evil.example"}, "is not a host and a port"),
        ({"account": "labportal"}, "user@realm"),
        ({"first_vmid": 6000}, "before the first"),
        ({"first_vmid": 1}, "greater than or equal to 100"),
        ({"fingerprints": "AA:BB"}, "is not a SHA-256 fingerprint"),
        ({"tls": "ca", "ca": ""}, "certificate is missing"),
        ({"tls": "ca", "ca": "hello"}, "not a certificate in PEM"),
        ({"new_secret": ""}, "is missing"),
        ({"template_copies": "nine"}, "a number, a colon"),
        ({"storages": "local;rm"}, "is not a name on a cluster"),
        ({"networks": "10.20.0.0/16\n192.0.2.5/24"}, "is an address in 192.0.2.0/24"),
        ({"networks": "the lab"}, "is not a network"),
    ],
)
def test_wrong_settings_are_told_in_a_sentence(client, staff, wrong, sentence):
    response = client.post(ADD, form(**wrong))
    assert response.status_code == 200 and sentence in response.content.decode()
    assert not Cluster.objects.exists()


@pytest.mark.parametrize("kind", ["proxmox", "libvirt"])
def test_the_networks_of_a_cluster_are_networks(client, staff, kind):
    add = f"/admin/machines/cluster/add/?kind={kind}"
    assert "is an address in 192.0.2.0/24" in client.post(add, form(kind=kind, config="{}", networks="192.0.2.5/24")).content.decode()
    assert client.post(add, form(kind=kind, config="{}", networks="10.20.0.0/16, 10.20.0.0/16\nfd00::/64")).status_code == 302
    cluster = Cluster.objects.get()
    assert cluster.networks == ["10.20.0.0/16", "fd00::/64"]
    assert "10.20.0.0/16\nfd00::/64" in client.get(page(cluster)).content.decode()


def test_a_stored_secret_goes_to_no_new_place(client, staff):
    client.post(ADD, form())
    cluster = Cluster.objects.get()
    for change in ({"endpoints": "evil.example.org"}, {"account": "other@pve!portal"}):
        assert "Enter the secret again" in client.post(page(cluster), form(new_secret="", **change)).content.decode()


def test_the_password_for_text_consoles_is_kept_and_forgotten_and_goes_to_no_new_place(client, staff):
    client.post(ADD, form(new_terminal_password="for shells"))
    cluster = Cluster.objects.get()
    assert (cluster.secret, cluster.terminal_password) == ("open sesame", "for shells")
    assert "for shells" not in client.get(page(cluster)).content.decode()
    assert "or have it forgotten" in client.post(page(cluster), form(endpoints="evil.example.org")).content.decode()
    assert client.post(page(cluster), form(new_secret="")).status_code == 302
    assert Cluster.objects.get().terminal_password == "for shells"
    assert client.post(page(cluster), form(endpoints="pve3.example.org", forget_terminal_password="on")).status_code == 302
    assert Cluster.objects.get().terminal_password == ""


PEOPLE = {"realm_login": "on", "admin_users": "mallory@pve", "admin_group": "friends"}
TRUST = {"endpoints": "pve.evil.example", "tls": "system", "ca": "of mine", "fingerprints": "CD" * 32}
WITHHELD = "Only superusers change this"


@pytest.fixture
def realm(client):
    """A cluster whose people sign in, as a superuser set it up."""
    client.force_login(make_user("boss", role="staff", is_superuser=True))
    assert client.post(ADD, form(realm_login="on", admin_users="root@pam", admin_group="lab-admins")).status_code == 302
    return Cluster.objects.get()


def refused(client, address, **values):
    """The fields that the form says are for superusers."""
    answer = client.post(address, form(**values))
    errors = answer.context["adminform"].form.errors if answer.status_code == 200 else {}
    return {name for name, told in errors.items() if WITHHELD in str(told)}


@pytest.mark.parametrize("name", PEOPLE)
def test_superusers_alone_say_who_of_a_cluster_signs_in_and_who_is_staff(client, staff, name):
    assert refused(client, ADD, **{name: PEOPLE[name]}) == {name} and not Cluster.objects.exists()
    assert client.post(ADD, form()).status_code == 302
    cluster = Cluster.objects.get()
    before = cluster.config
    assert refused(client, page(cluster), **{name: PEOPLE[name]}) == {name}
    assert Cluster.objects.get().config == before and not (before["realm_login"] or before["admin_users"] or before["admin_group"])


@pytest.mark.parametrize("name", [*TRUST, "ca_file"])
def test_superusers_alone_say_which_server_lets_people_in(client, realm, staff, name):
    opened_before = {each: "\n".join(realm.config[each]) for each in ("endpoints", "fingerprints")}  # when the fields were not disabled
    sent = TRUST.get(name) or SimpleUploadedFile("ca.pem", b"of mine")
    assert refused(client, page(realm), **opened_before | {name: sent}) == {name}
    assert Cluster.objects.get().config == realm.config


def test_other_staff_see_it_and_change_the_rest(client, realm, staff):
    text = client.get(page(realm)).content.decode()
    for name in (*PEOPLE, *TRUST, "ca_file"):
        assert re.search(rf'<(?:input|textarea|select)[^>]* name="{name}"[^>]* disabled', text), name
    assert text.count(WITHHELD) == len(PEOPLE) + len(TRUST) + 1 and "lab-admins" in text
    rest = {name: value for name, value in form(pool="other", new_secret="").items() if name not in (*PEOPLE, *TRUST)}
    assert client.post(page(realm), rest).status_code == 302
    cluster = Cluster.objects.get()
    assert cluster.config == {**realm.config, "pool": "other"} and cluster.config["realm_login"] is True
    assert client.post(page(realm), rest | {"admin_users": "", "admin_group": ""}).status_code == 302
    assert Cluster.objects.get().config["admin_users"] == ["root@pam"]


def test_a_cluster_whose_people_do_not_sign_in_is_set_up_by_any_staff(client, staff):
    client.post(ADD, form())
    cluster = Cluster.objects.get()
    text = client.get(page(cluster)).content.decode()
    assert text.count(WITHHELD) == len(PEOPLE)
    assert refused(client, page(cluster), endpoints="pve3.example.org") == set()
    assert Cluster.objects.get().config["endpoints"] == ["pve3.example.org:8006"]


def test_superusers_change_all_of_it(client, realm):
    assert WITHHELD not in client.get(page(realm)).content.decode()
    assert client.post(page(realm), form(endpoints="pve3.example.org", realm_login="on", admin_users="ada@pve")).status_code == 302
    config = Cluster.objects.get().config
    assert (config["endpoints"], config["admin_users"], config["admin_group"]) == (["pve3.example.org:8006"], ["ada@pve"], "")


def test_no_cluster_of_another_kind_becomes_one_whose_people_sign_in(client, staff):
    cluster = make_cluster("east", kind="libvirt")
    told = {**form(kind="proxmox", name="east"), "config": json.dumps({"endpoints": ["pve.evil.example:8006"], "realm_login": True})}
    assert client.post(page(cluster), told).status_code == 200
    assert client.post(f"{page(cluster)}?kind=proxmox", told).status_code == 200
    assert Cluster.objects.get().kind == "libvirt"


def test_a_cluster_with_machines_stays_of_its_kind(client, staff):
    cluster = make_cluster("east", kind="libvirt")
    make_machine(template=make_template(cluster))
    client.post(page(cluster), {**form(kind="simulator", name="east"), "config": "{}"})
    cluster.refresh_from_db()
    assert cluster.kind == "libvirt"
    client.post(page(cluster), form(kind="proxmox", name="east"))
    cluster.refresh_from_db()
    assert cluster.kind == "libvirt"


def test_the_connection_is_tested_by_the_watcher_and_the_page_says_what_it_found(client, staff):
    cluster = make_cluster("here", kind="libvirt")
    assert client.post(page(cluster, "check")).status_code == 302
    cluster.refresh_from_db()
    assert cluster.check_asked_at and AuditEntry.objects.filter(action="cluster.check", actor=staff).exists()
    assert "being tested" in client.get(page(cluster)).content.decode()
    assert 'http-equiv="refresh"' in client.get(page(cluster, "check")).content.decode()

    checking.look(cluster, FakeProvider(_settings("here")))
    cluster.refresh_from_db()
    assert cluster.check_asked_at is None
    assert "everything works" in client.get(page(cluster)).content.decode()
    text = client.get(page(cluster, "check")).content.decode()
    assert "Everything works." in text and '<th scope="row">connection</th>' in text and "refresh" not in text


def _settings(name):
    from machines.providers.types import ProviderSettings

    return ProviderSettings(cluster=name, portal="portal", config={})


def test_what_is_wrong_with_the_settings_is_the_answer(client, staff):
    cluster = make_cluster("here", kind="libvirt")
    checking.ask(cluster, acting_user=staff)
    cluster.refresh_from_db()
    checking.tell(cluster, InvalidSpec("x", message="The cluster has no endpoint."))
    assert "1 thing does not work" in client.get(page(cluster)).content.decode()
    assert '<th scope="row">Settings</th><td>The cluster has no endpoint.' in client.get(page(cluster, "check")).content.decode()


def test_the_watcher_answers_wishes_in_its_turn(staff, monkeypatch):
    import threading

    from machines.providers import registry
    from machines.services import gateway

    monkeypatch.setitem(registry.KINDS, "fake", "tests.machines.providers.fakes:FakeProvider")
    cluster = make_cluster("wishes", kind="fake")
    checking.ask(cluster, acting_user=staff)
    checking.ask_sync(cluster, acting_user=staff)
    stop = threading.Event()
    stop.set()
    watch = ClusterWatch(cluster.pk, "token", stop)
    watch.turn()
    ClusterErrands(watch, stop).turn()
    gateway.close_providers()
    cluster.refresh_from_db()
    assert cluster.check_asked_at is None and cluster.sync_asked_at is None
    assert cluster.report.checks[0]["ok"] and cluster.templates.filter(ref="tiny").exists()


@pytest.fixture
def old():
    cluster = make_cluster("old", kind="simulator")
    ClusterReport.objects.create(cluster=cluster, guests=[{"ref": "101", "name": "web.lab", "kind": "vm", "node": "n1", "power": "on"}])
    return cluster


def test_staff_adopt_a_machine_for_somebody(client, staff, old):
    ada = make_user("ada")
    assert "web-lab" in client.get(page(old, "adopt")).content.decode()
    assert "knows nobody" in client.post(page(old, "adopt"), {"ref": "101", "owner": "nobody"}).content.decode()
    client.post(page(old, "adopt"), {"ref": "101", "owner": "ada", "name": "web"})
    machine = Machine.objects.get()
    assert (machine.ref, machine.name, machine.owner, machine.adopted) == ("101", "web", ada, True)
    assert AuditEntry.objects.filter(action="machine.adopt", actor=staff, object_id=str(machine.key)).exists()
    assert client.get(page(old, "adopt/export")).json() == {"ada": [101]}


def test_a_file_is_shown_before_it_is_done(client, staff, old):
    make_user("ada")
    text = json.dumps({"ada@pve": [101, 999]})
    shown = client.post(page(old, "adopt/file"), {"file": SimpleUploadedFile("map.json", text.encode())})
    assert "Adopt 1 machine" in shown.content.decode() and not Machine.objects.exists()
    client.post(page(old, "adopt/file"), {"mapping": text})
    assert Machine.objects.get().ref == "101"


def test_destroying_is_allowed_in_the_list_of_machines(client, staff):
    ours, adopted = make_machine("ours"), make_machine("old", adopted=True)
    text = client.post("/admin/machines/machine/", {"action": "allow_destroying", "_selected_action": [ours.pk, adopted.pk]}, follow=True).content.decode()
    adopted.refresh_from_db()
    ours.refresh_from_db()
    assert adopted.may_destroy and not ours.may_destroy and "nothing has to be allowed" in text


@pytest.mark.parametrize("role", ["student", "teacher", None])
@pytest.mark.parametrize("rest", ["check", "sync", "adopt", "adopt/file", "adopt/export"])
def test_all_of_it_is_for_staff(client, old, role, rest):
    if role:
        client.force_login(make_user(role=role))
    for response in (client.get(page(old, rest)), client.post(page(old, rest), {"ref": "101"})):
        assert response.status_code in (302, 403) and (response.status_code == 403 or "login" in response.url)
    old.refresh_from_db()
    assert old.check_asked_at is None and old.sync_asked_at is None and not Machine.objects.exists()


def test_wishes_are_posted(client, staff, old):
    assert client.get(page(old, "sync")).status_code == 405
    client.get(page(old, "check"))
    old.refresh_from_db()
    assert old.check_asked_at is None


def test_what_can_be_adopted_is_searched_and_paged(client, staff, old):
    guests = [{"ref": str(900 + number), "name": f"guest-{number}", "kind": "vm", "node": "pve1", "power": "off"} for number in range(60)]
    ClusterReport.objects.update_or_create(cluster=old, defaults={"guests": guests})
    text = client.get(page(old, "adopt")).content.decode()
    assert "1–50 of 60" in text and "guest-49" in text and "guest-50" not in text
    assert "guest-55" in client.get(page(old, "adopt"), {"page": 2}).content.decode()
    found = client.get(page(old, "adopt"), {"q": "GUEST-55"}).content.decode()
    assert "guest-55" in found and "guest-5 " not in found
    assert "Nothing that can be adopted" in client.get(page(old, "adopt"), {"q": "payroll"}).content.decode()


def test_a_cluster_that_was_seen_can_be_deleted_while_it_has_no_machines(client, staff):
    cluster = make_cluster("mistyped", kind="proxmox")
    cluster.nodes.create(name="pve1")
    ClusterReport.objects.create(cluster=cluster)
    BurnedRef.objects.create(cluster=cluster, ref="100001", until=timezone.now())
    assert client.post(page(cluster, "delete"), {"post": "yes"}).status_code == 302
    assert not Cluster.objects.exists()


def test_what_is_changed_of_a_cluster_is_recorded_without_its_secret(client, staff):
    client.post(ADD, form())
    client.post(page(Cluster.objects.get()), form(new_secret="swordfish", pool="other"))
    added, changed = AuditEntry.objects.filter(action__in=["cluster.add", "cluster.change"])
    assert {"new_secret", "pool"} <= set(changed.data["fields"]) and changed.actor == staff
    assert "sesame" not in str(added.data) and "swordfish" not in str(changed.data)


def test_staff_offer_templates_to_others_one_or_many_at_once(client, staff):
    cluster = make_cluster()
    for ref in ("9000", "9001"):
        make_template(cluster, ref=ref, audience="staff")
    chosen = [template.pk for template in cluster.templates.all()]
    client.post("/admin/machines/template/", {"action": "for_teachers", "_selected_action": chosen})
    assert offered_templates(make_user(role="teacher")).count() == 2 and not offered_templates(make_user()).exists()


def test_nothing_of_a_cluster_in_maintenance_is_offered():
    template = make_template(make_cluster(maintenance=True))
    assert template not in offered_templates(make_user(role="staff"))


def test_a_template_is_offered_to_those_who_may_use_it():
    student, teacher, sam = make_user(), make_user(role="teacher"), make_user(role="staff")
    cluster = make_cluster()
    for audience in ("everybody", "teachers", "staff", "chosen"):
        make_template(cluster, ref=audience, audience=audience)
    cluster.templates.get(ref="chosen").people.add(student)

    def offered(user):
        return set(offered_templates(user).values_list("ref", flat=True))

    assert offered(student) == {"everybody", "chosen"}
    assert offered(teacher) == {"everybody", "teachers"}
    assert offered(sam) == {"everybody", "teachers", "staff", "chosen"}


def test_a_template_comes_in_its_tiers_or_in_all():
    template = make_template()
    assert set(tiers_of(template)) == set(Tier.objects.all()) != set()
    template.tiers.add(Tier.objects.first())
    assert list(tiers_of(template)) == [Tier.objects.first()]
