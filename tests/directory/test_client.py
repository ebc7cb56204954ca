"""Who somebody is in a real directory, and whether it is their password."""

import dataclasses
import uuid

import pytest
from ldap.ldapobject import SimpleLDAPObject

from accounts.directory.client import Directory
from accounts.directory.config import Attributes, Groups
from accounts.directory.names import normalised
from accounts.directory.types import DirectoryError, Misconfigured
from tests import slapd as tree
from tests.directory.config import config_for
from tests.slapd import password_of


@pytest.fixture(scope="module")
def directory(still_slapd):
    return Directory(config_for(still_slapd))


def sign_in(directory, login, uid=""):
    return directory.authenticate(login, password_of(uid or login))


@pytest.mark.parametrize("uid", ["alice", "bob", "nomail", "petra", "carol", "dora", "erik", "jsmith", "twin1"])
def test_everybody_signs_in_with_their_own_password_alone(directory, uid):
    assert sign_in(directory, uid).name == uid
    assert directory.authenticate(uid, "wrong") is None
    assert directory.authenticate(uid, password_of("alice") + "x") is None


def test_what_is_read_of_a_person(directory, still_slapd):
    alice = sign_in(directory, "alice")
    assert alice.dn == still_slapd.dns["alice"]
    assert (alice.name, alice.first_name, alice.last_name, alice.email) == ("alice", "Alice", "Müller", "alice@uni.test")
    assert alice.uid == still_slapd.value(alice.dn, "entryUUID").decode()
    assert directory.by_uid(alice.uid) == directory.find("alice") == alice
    assert sign_in(directory, "nomail").email == ""


def test_name_and_address_lead_to_the_same_person(directory):
    assert sign_in(directory, "alice@uni.test", "alice") == sign_in(directory, "ALICE", "alice") == sign_in(directory, " alice ", "alice")


def test_an_address_of_two_people_is_nobodys(directory):
    for uid in ("twin1", "twin2"):
        assert sign_in(directory, "lab@uni.test", uid) is None
    assert directory.find("lab@uni.test") is None
    assert directory.holds("lab@uni.test")


def test_of_many_names_it_is_asked_at_once_whether_it_has_one(directory):
    free = [f"free{number}" for number in range(100)]
    assert not directory.holds(*free, "*", "") and not directory.holds()
    assert directory.holds(*free, "ALICE@uni.test") and directory.holds("alice", *free)


def test_nobody_takes_a_name_by_writing_it_into_an_attribute_of_their_own(slapd):
    directory = Directory(config_for(slapd))
    slapd.change(slapd.dns["bob"], mail="alice")
    slapd.change(slapd.dns["carol"], mail="Alice")
    assert sign_in(directory, "alice").name == directory.find("ALICE").name == "alice"
    assert sign_in(directory, "alice", "bob") is None and sign_in(directory, "bob").name == "bob"
    assert "uid=alice" in next(step.found for step in directory.explain("alice") if step.did == "Take the one with this name")


@pytest.mark.parametrize("uid", ["suspended", "barred", "locked"])
def test_who_is_disabled_does_not_sign_in_and_is_still_known(directory, uid):
    assert sign_in(directory, uid) is None
    assert directory.find(uid).disabled
    assert directory.holds(uid)


def test_a_lock_that_ends_by_itself_is_the_servers_matter(slapd):
    slapd.change(slapd.dns["locked"], pwdAccountLockedTime="20200101000000Z")
    assert sign_in(Directory(config_for(slapd)), "locked") is not None


def test_a_filter_says_who_is_disabled(still_slapd):
    directory = Directory(config_for(still_slapd, disabled_filter="(givenName=Alice)"))
    assert sign_in(directory, "alice") is None and sign_in(directory, "bob") is not None


def test_the_time_of_an_answer_does_not_tell_who_is_there(directory, monkeypatch):
    """As many questions are asked whether there is such a person or not, and whatever is wrong."""
    asked = []
    bind, search = SimpleLDAPObject.simple_bind_s, SimpleLDAPObject.search_ext_s
    monkeypatch.setattr(SimpleLDAPObject, "simple_bind_s", lambda self, *arguments, **more: asked.append("bind") or bind(self, *arguments, **more))
    monkeypatch.setattr(SimpleLDAPObject, "search_ext_s", lambda self, *arguments, **more: asked.append("search") or search(self, *arguments, **more))
    for login in ("alice", "alice@uni.test", "nobody-here", "nobody@uni.test", "lab@uni.test", "suspended", "*"):
        asked.clear()
        assert directory.authenticate(login, "wrong") is None
        assert asked == ["bind", "search", "bind"], login


# -- what is typed is hostile ------------------------------------------------------------------

HOSTILE = [
    "*",
    "alice*",
    "a*",
    "alice)(uid=*",
    "alice)(|(uid=*",
    "*)(uid=*))(|(uid=*",
    "alice\0",
    "\0",
    "\\",
    "\\61lice",
    "alice\\",
    "(",
    ")",
    "&",
    "alice,ou=people",
    "uid=alice",
    "alice\n",
    "alice\u202e",
    "\ud800",
    "x" * 300,
    "ü" * 300,
    "",
    "   ",
]


@pytest.mark.parametrize("login", HOSTILE)
def test_injection_finds_nobody(directory, login):
    assert directory.authenticate(login, password_of("alice")) is None
    assert directory.find(login) is None
    assert not directory.holds(login)


@pytest.mark.parametrize("login", [*HOSTILE, "alice+cn=x", 'alice"', "alice;x", "#alice", "alice=x"])
@pytest.mark.parametrize("template", [f"uid={{login}},{tree.INFORMATICS}", "{login}@ad.uni.test"])
def test_injection_binds_as_nobody(still_slapd, login, template):
    directory = Directory(config_for(still_slapd, direct_bind=template))
    assert directory.authenticate(login, password_of("alice")) is None


@pytest.mark.parametrize("password", ["", "\0", f"{password_of('alice')}\0", f"{password_of('alice')}\0x", "x" * 2000, "*", "\ud800"])
def test_no_password_is_no_password(directory, still_slapd, password):
    assert directory.authenticate("alice", password) is None
    assert Directory(config_for(still_slapd, direct_bind=f"uid={{login}},{tree.INFORMATICS}")).authenticate("alice", password) is None


def test_special_characters_in_a_name_are_nothing_special(slapd):
    slapd.add_person("o'brien (lab)*\\", "Odd", "Name", tree.INFORMATICS, mail="odd@uni.test")
    directory = Directory(config_for(slapd))
    assert sign_in(directory, "o'brien (lab)*\\").email == "odd@uni.test"
    directly = Directory(config_for(slapd, direct_bind=f"uid={{login}},{tree.INFORMATICS}"))
    assert sign_in(directly, "o'brien (lab)*\\").email == "odd@uni.test"


# -- one spelling, but for case ----------------------------------------------------------------

OTHER_SPELLINGS = ["ａｌｉｃｅ", "alicｅ"]


@pytest.mark.parametrize("login", OTHER_SPELLINGS)
def test_other_letters_that_the_server_takes_for_a_name_lead_to_nobody(directory, login):
    """Wrong passwords are counted for a name: each spelling would have a count of its own."""
    assert directory.holds(login), "the server finds somebody"
    assert sign_in(directory, login, "alice") is directory.find(login) is None
    last = list(directory.explain(login))[-1]
    assert not last.good and "uid=alice" in last.found and "in none of uid, mail this is spelt so" in last.found


@pytest.mark.parametrize("login", OTHER_SPELLINGS)
@pytest.mark.parametrize("template", [f"uid={{login}},{tree.INFORMATICS}", "{login}@ad.uni.test"])
def test_a_direct_bind_with_other_letters_leads_to_nobody(still_slapd, monkeypatch, login, template):
    directory = Directory(config_for(still_slapd, direct_bind=template))
    if template.startswith("{"):  # this server binds with DNs alone
        monkeypatch.setattr(Directory, "_is_password", lambda self, connection, name, password: True)
    assert sign_in(directory, "ALICE", "alice").name == "alice"
    assert sign_in(directory, login, "alice") is None


def test_blanks_tell_names_apart_and_case_does_not(slapd):
    slapd.add_person("Ada  Özil-Groß", "Ada", "Özil", tree.INFORMATICS, mail="")
    for changes in ({}, {"direct_bind": f"uid={{login}},{tree.INFORMATICS}"}):
        directory = Directory(config_for(slapd, **changes))
        for login in ("Ada  Özil-Groß", "ada  özil-groß", "ADA  O\u0308ZIL-Groß"):
            assert sign_in(directory, login, "Ada  Özil-Groß").name == "Ada  Özil-Groß", login
        for login in ("Ada Özil-Groß", "Ada   Özil-Groß"):
            assert sign_in(directory, login, "Ada  Özil-Groß") is None, login


def test_of_several_whom_the_server_finds_it_is_the_one_who_is_spelt_so(slapd):
    slapd.change(slapd.dns["bob"], sAMAccountName="ａｌｉｃｅ")
    directory = Directory(config_for(slapd, attributes=Attributes(logins=("uid", "sAMAccountName"))))
    assert sign_in(directory, "alice").name == "alice" and sign_in(directory, "alice", "bob") is None
    assert sign_in(directory, "ａｌｉｃｅ", "bob").name == "bob" and sign_in(directory, "ａｌｉｃｅ", "alice") is None


# -- other ways to bind and to find ------------------------------------------------------------


def test_a_direct_bind_needs_no_account_of_the_portal(still_slapd):
    config = config_for(still_slapd, direct_bind=f"uid={{login}},{tree.INFORMATICS}", bind_dn="", bind_password="", groups=Groups(), role_groups={})
    directory = Directory(config)
    assert sign_in(directory, "alice").email == "alice@uni.test"
    assert directory.authenticate("alice", "wrong") is None


def test_a_direct_bind_leads_to_the_entry_that_was_bound_with(slapd):
    """Somebody of the same login elsewhere in the tree is not taken for them, even where a filter hides the one who binds."""
    slapd.add_person("erik", "Another", "Erik", tree.INFORMATICS, userPassword="mine-and-mine-alone")
    staff_only = config_for(slapd, direct_bind=f"uid={{login}},{tree.INFORMATICS}", user_filter="(sn=Østergård)")
    assert Directory(staff_only).authenticate("erik", "mine-and-mine-alone") is None
    everybody = dataclasses.replace(staff_only, user_filter="(objectClass=person)")
    entry = Directory(everybody).authenticate("erik", "mine-and-mine-alone")
    assert entry.dn == f"uid=erik,{tree.INFORMATICS}" and normalised(tree.STAFF) not in entry.groups


def test_without_an_account_of_the_portal_people_are_searched_for_as_nobody(still_slapd):
    directory = Directory(config_for(still_slapd, bind_dn="", bind_password=""))
    with pytest.raises(Misconfigured):  # this server shows nothing to nobody
        directory.find("alice")


def test_ids_of_active_directory_are_read_and_found(still_slapd):
    names = Attributes(uid="objectGUID", name="sAMAccountName", logins=("sAMAccountName", "userPrincipalName"))
    directory = Directory(config_for(still_slapd, attributes=names))
    alice = sign_in(directory, "alice@ad.uni.test", "alice")
    assert alice == sign_in(directory, "alicem", "alice")
    assert alice.uid == "00112233-4455-6677-8899-aabbccddeeff"
    assert directory.by_uid(alice.uid) == alice
    assert directory.by_uid("alice") is directory.by_uid(str(uuid.uuid4())) is None


def test_an_entry_without_its_id_is_no_person(still_slapd):
    directory = Directory(config_for(still_slapd, attributes=Attributes(uid="objectGUID")))
    with pytest.raises(Misconfigured, match="does not say who this is"):
        sign_in(directory, "bob")


@pytest.mark.parametrize(
    "changes",
    [
        {"bind_password": "wrong"},
        {"bind_dn": "cn=nobody,dc=uni,dc=test"},
        {"user_bases": ("ou=elsewhere,dc=uni,dc=test",)},
        {"user_filter": "(uid)"},
        {"start_tls": True, "ca_file": None},
    ],
)
def test_settings_that_cannot_work_are_told_from_a_wrong_password(still_slapd, changes):
    with pytest.raises(DirectoryError) as raised:
        sign_in(Directory(config_for(still_slapd, **changes)), "alice")
    assert raised.value.detail and "wrong" not in raised.value.detail and password_of("alice") not in str(raised.value.__dict__)


def test_bases_that_overlap_find_a_person_once(still_slapd):
    directory = Directory(config_for(still_slapd, user_bases=(tree.PEOPLE, tree.INFORMATICS, tree.EMPLOYEES)))
    assert sign_in(directory, "alice").name == "alice"


# -- time passes in the directory --------------------------------------------------------------


def test_who_is_renamed_or_moved_stays_who_they_are(slapd):
    directory = Directory(config_for(slapd))
    before = sign_in(directory, "bob")
    slapd.rename("bob", "robert")
    renamed = directory.authenticate("robert", password_of("bob"))
    assert (renamed.uid, renamed.name, renamed.groups) == (before.uid, "robert", before.groups)
    assert sign_in(directory, "bob") is None
    slapd.move("robert", tree.EMPLOYEES)
    assert directory.by_uid(before.uid).dn == f"uid=robert,{tree.EMPLOYEES}"


def test_a_new_person_with_an_old_name_is_another(slapd):
    directory = Directory(config_for(slapd))
    before = sign_in(directory, "alice").uid
    slapd.delete(slapd.dns["alice"])
    assert directory.find("alice") is None and directory.by_uid(before) is None and not directory.holds("alice")
    slapd.add_person("alice", "Alice", "Another", tree.INFORMATICS)
    assert sign_in(directory, "alice").uid != before
    assert directory.by_uid(before) is None


# -- who may sign in, and as what --------------------------------------------------------------


@pytest.mark.parametrize(("uid", "role"), [("alice", "student"), ("bob", "student"), ("carol", "teacher"), ("dora", "teacher"), ("erik", "staff")])
def test_groups_give_roles_those_within_groups_too(directory, uid, role):
    assert directory.config.role_of(sign_in(directory, uid).groups) == role


def test_groups_that_hold_each_other_end(directory):
    groups = sign_in(directory, "dora").groups
    assert groups == {normalised(f"cn={name},{tree.GROUPS}") for name in ("lecturers", "loop-a", "loop-b")} | {normalised(tree.TEACHERS)}


def test_groups_that_list_login_names(directory):
    assert normalised(f"cn=helpdesk,{tree.GROUPS}") in sign_in(directory, "petra").groups
    assert normalised(f"cn=helpdesk,{tree.GROUPS}") not in sign_in(directory, "alice").groups


def test_special_characters_in_a_dn_do_not_hide_groups(directory):
    assert normalised(tree.OPTICS) in sign_in(directory, "jsmith").groups


@pytest.mark.parametrize("bases", [(), (tree.GROUPS,)])
def test_groups_are_read_from_member_of(still_slapd, bases):
    directory = Directory(config_for(still_slapd, groups=Groups(bases=bases, member_of="memberOf", members=("member",))))
    assert {normalised(tree.TEACHERS), normalised(f"cn=loop-b,{tree.GROUPS}")} <= sign_in(directory, "dora").groups
    assert normalised(tree.STUDENTS) in sign_in(directory, "bob").groups


def test_groups_in_groups_can_be_left_alone(still_slapd):
    directory = Directory(config_for(still_slapd, groups=Groups(bases=(tree.GROUPS,), nested=False)))
    assert normalised(tree.STUDENTS) not in sign_in(directory, "bob").groups
    assert directory.config.role_of(sign_in(directory, "carol").groups) == "teacher"


def test_only_who_is_in_a_required_group_may_sign_in(still_slapd):
    directory = Directory(config_for(still_slapd, required_groups=frozenset([normalised(tree.NETWORKS)])))
    assert sign_in(directory, "alice") and sign_in(directory, "bob")
    assert sign_in(directory, "carol") is None
    assert directory.find("carol").name == "carol"


def test_who_has_no_role_is_a_student_only_by_default(still_slapd, directory):
    assert directory.config.role_of(sign_in(directory, "alice").groups - {normalised(tree.STUDENTS)}) is None
    strict = Directory(config_for(still_slapd, student_by_default=False, role_groups={"staff": frozenset([normalised(tree.STAFF)])}))
    assert sign_in(strict, "alice") is None and sign_in(strict, "erik") is not None


def test_staff_are_told_step_by_step(directory):
    steps = list(directory.explain("dora"))
    assert all(step.good for step in steps)
    assert {"teacher", "yes"} <= {step.found for step in steps}
    assert not list(directory.explain("lab@uni.test"))[-1].good
    assert not list(directory.explain("nobody-here"))[-1].good
    assert list(directory.explain("barred"))[-1].found.startswith("no: the directory has disabled")
