"""Settings of the directory that cannot be right stop the start with a sentence that names them."""

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured

from accounts.directory.config import DirectoryConfig
from accounts.directory.names import normalised
from accounts.directory.types import Entry
from labportal import settings_directory

LEAST = {"LDAP_URIS": "ldaps://ldap.uni.test", "LDAP_USER_BASES": "ou=people,dc=uni,dc=test"}

LATIN_1 = b"gr\xfcn".decode("utf-8", "surrogateescape")  # as it comes from the environment


@pytest.fixture
def read(monkeypatch):
    def read(**variables: str) -> DirectoryConfig | None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return settings_directory.read(environ.Env())

    return read


def test_without_servers_there_is_no_directory_and_ldap_may_be_absent(read, monkeypatch):
    monkeypatch.setattr(settings_directory, "find_spec", lambda name: None)
    assert read() is None
    assert read(LDAP_URIS=" ") is None
    with pytest.raises(ImproperlyConfigured, match=r"not installed.*requirements/ldap\.txt"):
        read(**LEAST)


def test_little_must_be_said(read):
    config = read(**LEAST)
    assert config.uris == ("ldaps://ldap.uni.test",) and config.start_tls and not config.allow_plaintext
    assert config.attributes.uid == "entryUUID" and config.attributes.logins == ("uid", "mail")
    assert config.role_of([]) is None and config.admits(Entry(uid="1", dn="", name="a"))


def test_active_directory_calls_things_otherwise(read):
    config = read(**LEAST, LDAP_KIND="ad", LDAP_ATTRIBUTES='{"email": "proxyMail"}')
    assert (config.attributes.uid, config.attributes.name, config.attributes.email) == ("objectGUID", "sAMAccountName", "proxyMail")
    assert config.groups.in_chain


def test_lists_of_names_and_groups(read):
    config = read(
        LDAP_URIS="ldaps://one.uni.test, ldaps://two.uni.test:1636",
        LDAP_USER_BASES="ou=a,dc=uni ; ou=b,dc=uni",
        LDAP_GROUP_BASES="ou=groups,dc=uni",
        LDAP_ROLE_GROUPS='{"staff": "CN=Lab-Staff, OU=groups,dc=uni", "teacher": ["cn=t1,dc=uni", "cn=t2,dc=uni"]}',
        LDAP_REQUIRED_GROUPS="cn=users,dc=uni",
        LDAP_RESERVED_DOMAINS="Uni.test,@students.uni.test",
        LDAP_STUDENT_BY_DEFAULT="false",
    )
    assert config.uris == ("ldaps://one.uni.test", "ldaps://two.uni.test:1636") and config.user_bases == ("ou=a,dc=uni", "ou=b,dc=uni")
    assert config.role_of({"cn=lab-staff,ou=groups,dc=uni", "cn=t1,dc=uni"}) == "staff" and config.role_of({"cn=t2,dc=uni"}) == "teacher"
    assert config.reserved_domains == {"uni.test", "students.uni.test"}

    def entry(*groups, disabled=False):
        return Entry(uid="1", dn="", name="a", groups=frozenset(groups), disabled=disabled)

    assert config.admits(entry("cn=users,dc=uni", "cn=t1,dc=uni"))
    assert not config.admits(entry("cn=users,dc=uni"))
    assert not config.admits(entry("cn=t1,dc=uni"))
    assert not config.admits(entry("cn=users,dc=uni", "cn=t1,dc=uni", disabled=True))


@pytest.mark.parametrize("uri", ["ldap://ldap.uni.test", "ldap://10.0.0.1:389", "ldap://localhost.evil.test"])
def test_no_password_goes_in_clear_unless_somebody_said_so(read, uri):
    assert read(**LEAST | {"LDAP_URIS": uri}).start_tls
    with pytest.raises(ImproperlyConfigured, match="in clear"):
        read(**LEAST | {"LDAP_URIS": uri, "LDAP_START_TLS": "false"})
    assert not read(**LEAST | {"LDAP_URIS": uri, "LDAP_START_TLS": "false", "LDAP_ALLOW_PLAINTEXT": "true"}).start_tls


@pytest.mark.parametrize("uri", ["ldap://127.0.0.1:3899", "ldap://localhost", "ldap://[::1]"])
def test_on_this_computer_nobody_listens(read, uri):
    assert not read(**LEAST | {"LDAP_URIS": uri, "LDAP_START_TLS": "false"}).start_tls


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"LDAP_URIS": "http://ldap.uni.test"}, "http://ldap.uni.test"),
        ({"LDAP_URIS": "ldap.uni.test"}, "ldap.uni.test"),
        ({"LDAP_URIS": "ldaps://"}, "ldaps://"),
        ({"LDAP_URIS": "ldaps://host:port"}, "ldaps://host:port"),
        ({"LDAP_URIS": "ldaps://ldap..example.org"}, "ldaps://ldap..example.org"),
        ({"LDAP_URIS": f"ldaps://{'a' * 64}.example.org"}, "aaaa.example.org is no address"),
        ({"LDAP_URIS": LATIN_1}, "LDAP_URIS is not written in UTF-8"),
        ({"LDAP_USER_BASES": ""}, "no base"),
        ({"LDAP_USER_BASES": "people"}, "LDAP_USER_BASES"),
        ({"LDAP_CA_FILE": "/nowhere/ca.pem"}, "/nowhere/ca.pem"),
        ({"LDAP_BIND_DN": "cn=portal,dc=uni"}, "password"),
        ({"LDAP_BIND_PASSWORD": "hunter2"}, "bind DN"),
        ({"LDAP_BIND_DN": "cn=portal,dc=uni", "LDAP_BIND_PASSWORD": f"hunter2{LATIN_1}"}, "LDAP_BIND_PASSWORD is not written in UTF-8"),
        ({"LDAP_BIND_DN": LATIN_1, "LDAP_BIND_PASSWORD": "hunter2"}, "LDAP_BIND_DN is not written in UTF-8"),
        ({"LDAP_USER_FILTER": f"(ou={LATIN_1})"}, "LDAP_USER_FILTER"),
        ({"LDAP_USER_BASES": f"ou={LATIN_1},dc=uni"}, "LDAP_USER_BASES"),
        ({"LDAP_DIRECT_BIND": "uid=%s,dc=uni"}, "{login}"),
        ({"LDAP_TIMEOUT": "30"}, "time-out"),
        ({"LDAP_TIMEOUT": "soon"}, "LDAP_TIMEOUT"),
        ({"LDAP_START_TLS": "maybe"}, "LDAP_START_TLS"),
        ({"LDAP_USER_FILTER": "objectClass=person"}, "objectClass=person"),
        ({"LDAP_DISABLED_FILTER": "(x=1"}, r"\(x=1"),
        ({"LDAP_KIND": "novell"}, "LDAP_KIND"),
        ({"LDAP_ATTRIBUTES": "uid"}, "LDAP_ATTRIBUTES"),
        ({"LDAP_ATTRIBUTES": '{"role": "title"}'}, "role"),
        ({"LDAP_ATTRIBUTES": '{"email": null}'}, "LDAP_ATTRIBUTES: null is no name of an attribute"),
        ({"LDAP_ATTRIBUTES": '{"email": ["mail"]}'}, "LDAP_ATTRIBUTES"),
        ({"LDAP_ATTRIBUTES": '{"first_name": 5}'}, "LDAP_ATTRIBUTES"),
        ({"LDAP_ATTRIBUTES": '{"uid": ""}'}, "LDAP_ATTRIBUTES"),
        ({"LDAP_ATTRIBUTES": '{"uid": "entry\\nUUID"}'}, "LDAP_ATTRIBUTES"),
        ({"LDAP_LOGIN_ATTRIBUTES": "uid,ma)il"}, "LDAP_LOGIN_ATTRIBUTES"),
        ({"LDAP_GROUP_MEMBER_ATTRIBUTES": "member=*"}, "LDAP_GROUP_MEMBER_ATTRIBUTES"),
        ({"LDAP_MEMBER_OF_ATTRIBUTE": "(memberOf)"}, "LDAP_MEMBER_OF_ATTRIBUTE"),
        ({"LDAP_ROLE_GROUPS": "cn=staff,dc=uni"}, "LDAP_ROLE_GROUPS"),
        ({"LDAP_ROLE_GROUPS": '{"admin": "cn=a,dc=uni"}', "LDAP_GROUP_BASES": "dc=uni"}, "admin"),
        ({"LDAP_ROLE_GROUPS": '{"staff": 1}'}, "LDAP_ROLE_GROUPS"),
        ({"LDAP_ROLE_GROUPS": '{"staff": "cn=staff"}', "LDAP_GROUP_BASES": "dc=uni"}, "cn=staff"),
        ({"LDAP_ROLE_GROUPS": '{"staff": "staff"}', "LDAP_GROUP_BASES": "dc=uni"}, "staff"),
        ({"LDAP_ROLE_GROUPS": '{"staff": "cn=a,dc=uni"}'}, "neither a base"),
        ({"LDAP_PASSWORD_URL": "javascript:alert(1)"}, "javascript"),
    ],
)
def test_what_cannot_be_right_is_named_in_one_sentence(read, variables, named):
    with pytest.raises(ImproperlyConfigured, match=named) as raised:
        read(**LEAST | variables)
    assert "hunter2" not in str(raised.value) and "\n" not in str(raised.value)


def test_attributes_may_be_named_by_their_number_or_with_an_option(read):
    config = read(**LEAST, LDAP_ATTRIBUTES='{"email": "0.9.2342.19200300.100.1.3", "first_name": "givenName;lang-de"}')
    assert (config.attributes.email, config.attributes.first_name) == ("0.9.2342.19200300.100.1.3", "givenName;lang-de")


@pytest.mark.parametrize("uri", ["ldaps://ldap.uni.test.", "ldaps://verzeichnis.münster.test", "ldaps://[fe80::1]:636", "ldaps://dc_1.uni.test"])
def test_hosts_that_have_such_a_name(read, uri):
    assert read(**LEAST | {"LDAP_URIS": uri}).uris == (uri,)


@pytest.mark.parametrize("password", ["$ecret", "$", "a#b", "'x\"y", "\\$x", " x "])
def test_a_password_is_taken_as_it_stands(read, password):
    assert read(**LEAST, LDAP_BIND_DN="cn=portal,dc=uni", LDAP_BIND_PASSWORD=password).bind_password == password


def test_whole_names_are_compared_as_directories_do():
    assert normalised("CN=Staff , OU=Groups,DC=uni") == normalised("cn=staff,ou=groups,dc=uni")
