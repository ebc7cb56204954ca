"""Groups within groups of any shape, and names however they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap.dn import escape_dn_chars

from accounts.directory import groups
from accounts.directory.config import Groups
from accounts.directory.groups import DEEPEST, MOST, with_holders
from accounts.directory.names import first_value, normalised
from accounts.directory.query import Found, TooMany

names = st.integers(0, 9).map(lambda number: f"cn=g{number},dc=uni")
holds = st.dictionaries(names, st.frozensets(names, max_size=4))


def walk(direct, held_by):
    return set(with_holders({name: name for name in direct}, lambda dns: {group: group for dn in dns for group in held_by.get(dn, ())}))


@given(st.frozensets(names, max_size=3), holds)
def test_all_that_hold_a_group_of_theirs_and_no_other(direct, held_by):
    found = walk(direct, held_by)
    assert direct <= found
    assert all(held_by.get(group, frozenset()) <= found for group in found), "nothing is missing"
    reached, fresh = set(direct), set(direct)
    while fresh:
        fresh = {holder for group in fresh for holder in held_by.get(group, ())} - reached
        reached |= fresh
    assert found == reached, "nothing is there that no chain leads to"


def test_a_chain_ends_somewhere():
    deep = {f"cn=g{number},dc=uni": frozenset([f"cn=g{number + 1},dc=uni"]) for number in range(100)}
    assert len(walk(["cn=g0,dc=uni"], deep)) == DEEPEST + 1


def test_a_directory_without_end_is_refused():
    with pytest.raises(TooMany):
        with_holders({"cn=a,dc=uni": "cn=a,dc=uni"}, lambda dns: {f"cn={n},dc=uni": "" for n in range(MOST + 1)})


def test_active_directory_follows_groups_by_itself(monkeypatch):
    asked = []
    monkeypatch.setattr(groups, "search", lambda connection, bases, wanted, attributes: asked.append(wanted) or [Found("CN=Staff,DC=uni", {})])
    config = Groups(bases=("dc=uni",), members=("member",), in_chain=True)
    person = Found("CN=Smith\\2C John (x),DC=uni", {})
    assert groups.groups_of(None, config, person, "jsmith") == {"cn=staff,dc=uni"}
    assert asked == ["(&(objectClass=*)(|(member:1.2.840.113556.1.4.1941:=CN=Smith\\5c2C John \\28x\\29,DC=uni)))"], "once, and escaped"


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@given(text, text)
def test_a_name_survives_being_written_as_a_dn(value, place):
    """As libldap escapes it, whatever stands in it; and the one spelling is the one spelling of itself."""
    name = normalised(f"CN={escape_dn_chars(value)},ou={escape_dn_chars(place)}")
    assert normalised(name) == name
    if name:
        assert first_value(name) == first_value(f"cn={escape_dn_chars(value)},dc=uni")
        assert name.startswith("cn=")
    else:
        assert not value.strip() or not place.strip(), "only blanks are no name"


@given(text, text)
def test_different_names_stay_different(one, other):
    same = normalised(f"cn={escape_dn_chars(one)},dc=uni") == normalised(f"cn={escape_dn_chars(other)},dc=uni")
    if one.isascii() and other.isascii():
        assert same == (" ".join(one.lower().split()) == " ".join(other.lower().split()))


@given(st.text(max_size=60))
def test_whatever_a_server_says_breaks_nothing(said):
    assert normalised(normalised(said)) == normalised(said)
