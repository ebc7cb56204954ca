"""The examples of docs/sign-in.md are settings that the portal takes."""

import re
from pathlib import Path

import environ
import pytest

from labportal import settings_directory, settings_sso

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "sign-in.md").read_text()
EXAMPLES = {block.partition("=")[0]: block for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)}


def environment(example: str, tmp_path: Path) -> environ.Env:
    values = dict(line.split("=", 1) for line in example.strip().splitlines())
    if "LDAP_CA_FILE" in values:
        (tmp_path / "ca.pem").touch()
        values["LDAP_CA_FILE"] = str(tmp_path / "ca.pem")
    env = environ.Env()
    env.ENVIRON = values
    return env


@pytest.mark.parametrize("kind", ["LDAP_URIS", "LDAP_KIND"])
def test_the_examples_of_directories(kind, tmp_path):
    pytest.importorskip("ldap")
    config = settings_directory.read(environment(EXAMPLES[kind], tmp_path))
    assert len(config.uris) == 2 and set(config.role_groups) == {"staff", "teacher"} and config.bind_dn
    assert config.attributes.uid == ("objectGUID" if kind == "LDAP_KIND" else "entryUUID")


def test_the_example_of_openid_connect(tmp_path):
    found = settings_sso.read(environment(EXAMPLES["OIDC_ISSUER"], tmp_path))
    [app] = found.providers["openid_connect"]["APPS"]
    assert app["provider_id"] == "university" and f"/accounts/oidc/{app['provider_id']}/login/callback/" in TEXT


def test_the_example_of_saml(tmp_path):
    pytest.importorskip("onelogin")
    found = settings_sso.read(environment(EXAMPLES["SAML_IDP_ENTITY_ID"], tmp_path))
    [app] = found.providers["saml"]["APPS"]
    assert f"/accounts/saml/{app['provider_id']}/metadata/" in TEXT


def test_every_variable_that_is_named_is_explained():
    named = set(re.findall(r"\b(?:LDAP|OIDC|SAML|DIRECTORY|SSO)_[A-Z_]+\b", TEXT))
    explained = set(re.findall(r"(?m)^#?([A-Z_]+)=", (ROOT / ".env.example").read_text()))
    assert named and not named - explained
