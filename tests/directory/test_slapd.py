"""The directory that the other tests sign in with is what they take it for."""

import ldap
import pytest

from tests import slapd as tree


def test_people_bind_with_their_password_and_nobody_with_another(still_slapd):
    for uid, dn in still_slapd.dns.items():
        connection = ldap.initialize(still_slapd.uri)
        connection.simple_bind_s(dn, tree.password_of(uid))
        with pytest.raises(ldap.INVALID_CREDENTIALS):
            connection.simple_bind_s(dn, "wrong")
        connection.unbind_s()


def test_a_server_comes_back_with_its_tree(slapd):
    slapd.rename("bob", "robert")
    slapd.move("robert", tree.EMPLOYEES)
    slapd.stop()
    with pytest.raises(ldap.SERVER_DOWN), slapd.as_root():
        pass
    slapd.start()
    assert slapd.value(slapd.dns["robert"], "mail") == b"bob@uni.test"


def test_who_is_renamed_stays_in_their_groups(slapd):
    slapd.rename("alice", "alicia")
    with slapd.as_root() as connection:
        ((_dn, group),) = connection.search_s(tree.NETWORKS, ldap.SCOPE_BASE)
    assert slapd.dns["alicia"].encode() in group["member"]
