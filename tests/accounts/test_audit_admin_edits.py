"""What is done in the admin is on the record, without the secrets that are typed there."""

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group
from django.urls import reverse

from accounts import admin_recorded
from accounts.fields import EncryptedTextField
from accounts.models import AuditEntry, User
from machines.models import Cluster, Tier
from tests.factories import make_user

pytestmark = pytest.mark.django_db

SECRET = "M4rked-Secret-Of-The-Form"


@pytest.fixture
def staff(client):
    staff = make_user("eve", role="staff", is_superuser=True)
    client.force_login(staff)
    return staff


def tier(**values):
    return {"name": "Gold of ours", "cores": 2, "memory_mib": 2048, "disk_gib": 16, "position": 0, "_save": "Save", **values}


def edits():
    return list(AuditEntry.objects.filter(action__startswith="admin.").order_by("id"))


def test_a_row_that_is_added_changed_and_removed(client, staff):
    client.post(reverse("admin:machines_tier_add"), tier())
    gold = Tier.objects.get(name="Gold of ours")
    client.post(reverse("admin:machines_tier_change", args=[gold.pk]), tier(cores=4, name="Silver of ours"))
    client.post(reverse("admin:machines_tier_delete", args=[gold.pk]), {"post": "yes"})
    added, changed, removed = edits()
    assert [(entry.action, entry.actor, entry.object_type, entry.object_id) for entry in (added, changed, removed)] == [
        (f"admin.{what}", staff, "tier", str(gold.pk)) for what in ("add", "change", "delete")
    ]
    assert changed.data == {"fields": ["Name", "Cores"], "values": {"cores": [2, 4]}}
    assert changed.address == "127.0.0.1"


def test_rows_removed_together_have_an_entry_each(client, staff):
    tiers = [Tier.objects.create(name=name, cores=1, memory_mib=512, disk_gib=4) for name in ("a", "b", "c")]
    client.post(reverse("admin:machines_tier_changelist"), {"action": "delete_selected", "_selected_action": [each.pk for each in tiers], "post": "yes"})
    assert not Tier.objects.filter(name__in="abc").exists()
    assert {entry.object_name for entry in edits()} == {"a", "b", "c"}


def test_a_form_that_is_refused_leaves_no_entry(client, staff):
    client.post(reverse("admin:machines_tier_add"), tier(cores=-1))
    assert not edits()


def test_whatever_is_registered_is_recorded():
    assert all(isinstance(each, admin_recorded.Recorded) for each in admin.site._registry.values())


def test_so_is_what_a_package_registers(rf):
    site = admin_recorded.RecordingSite()
    site.register(Group)
    assert isinstance(site._registry[Group], admin_recorded.Recorded)


def test_no_column_that_is_encrypted_is_ever_told():
    secret = [field for model in apps.get_models() for field in model._meta.concrete_fields if isinstance(field, EncryptedTextField)]
    assert len(secret) >= 4
    assert not any(isinstance(field, admin_recorded._PLAIN) for field in secret)


def test_the_secret_of_a_cluster_stays_out(client, staff):
    settings = {"kind": "simulator", "name": "lab", "config": '{"socket": "/tmp/simulator.sock"}', "networks": "", "new_secret": SECRET}
    limits = {"limit_create": 4, "limit_power": 8, "limit_per_template": 4, "limit_booting": 0, "stop_deadline": 60}
    limits |= {"limit_create_per_node": 0, "limit_create_per_storage": 0, "limit_power_per_node": 0}
    client.post(reverse("admin:machines_cluster_add"), settings | limits)
    lab = Cluster.objects.get()
    assert lab.secret == SECRET
    client.post(reverse("admin:machines_cluster_change", args=[lab.pk]), settings | limits | {"new_secret": SECRET + "2", "limit_power": 9})
    _added, changed = AuditEntry.objects.filter(action__in=["cluster.add", "cluster.change"]).order_by("id")
    assert changed.data["values"] == {"limit_power": [8, 9]}
    assert SECRET not in str(list(AuditEntry.objects.values()))
    assert "new_secret" in changed.data["fields"] and not edits(), "one entry, in the words of the service"
    client.post(reverse("admin:machines_cluster_delete", args=[lab.pk]), {"post": "yes"})
    assert [entry.action for entry in edits()] == ["admin.delete"]


def test_a_password_that_staff_set_stays_out(client, staff, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"  # where mail is sent, people choose theirs
    ada = make_user("ada")
    client.post(reverse("admin:auth_user_password_change", args=[ada.pk]), {"password1": SECRET, "password2": SECRET, "usable_password": "true"})
    ada = User.objects.get(pk=ada.pk)
    assert ada.check_password(SECRET)
    hashed = ada.password
    assert AuditEntry.objects.get(action="user.password_given").object_name == "ada" and not edits()
    assert SECRET not in str(list(AuditEntry.objects.values())) and hashed not in str(list(AuditEntry.objects.values()))
