"""manage.py import_template."""

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from machines.models import Template
from machines.providers.base import Provider
from machines.providers.errors import InvalidSpec
from machines.providers.types import TemplateInfo
from machines.services import gateway
from tests.factories import make_cluster

pytestmark = pytest.mark.django_db


class Importing:
    """The two calls of a provider that matter here."""

    def __init__(self) -> None:
        self.taken: list[TemplateInfo] = []

    def import_template(self, path: str, name: str) -> TemplateInfo:
        if not path.endswith(".box"):
            raise InvalidSpec(path, message="This is no box.")
        info = TemplateInfo(ref=f"template-{name}.qcow2", name=name)
        self.taken.append(info)
        return info

    def templates(self) -> list[TemplateInfo]:
        return self.taken


@pytest.fixture(autouse=True)
def provider(monkeypatch: pytest.MonkeyPatch) -> Importing:
    provider = Importing()
    monkeypatch.setattr(gateway, "provider_for", lambda _cluster: provider)
    return provider


def test_a_file_becomes_a_template_of_the_cluster(tmp_path: Path) -> None:
    cluster, said = make_cluster("lab"), StringIO()
    call_command("import_template", "lab", str(tmp_path / "debian-12.box"), stdout=said)
    assert "imported" in said.getvalue()
    assert Template.objects.get(cluster=cluster).name == "debian-12"
    call_command("import_template", "lab", str(tmp_path / "debian-12.box"), "--name", "other", stdout=said)
    assert set(Template.objects.values_list("name", flat=True)) == {"debian-12", "other"}


def test_what_the_cluster_does_not_take_is_said(tmp_path: Path) -> None:
    make_cluster("lab")
    with pytest.raises(CommandError, match="This is no box"):
        call_command("import_template", "lab", str(tmp_path / "debian.vmdk"))
    assert not Template.objects.exists()


def test_a_cluster_nobody_knows(tmp_path: Path) -> None:
    make_cluster("lab")
    with pytest.raises(CommandError, match="Known: lab"):
        call_command("import_template", "lap", str(tmp_path / "debian-12.box"))


def test_the_double_has_what_it_stands_for() -> None:
    assert all(hasattr(Provider, name) for name in ("import_template", "templates"))
