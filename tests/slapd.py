"""A university's directory for tests: OpenLDAP's server on free loopback ports, with a tree to sign in from."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ldap
from ldap.dn import escape_dn_chars
from ldap.ldapobject import SimpleLDAPObject

from tests.authority import Authority

BASE = "dc=uni,dc=test"
PEOPLE = f"ou=people,{BASE}"
GROUPS = f"ou=groups,{BASE}"
ROOT_DN, ROOT_PASSWORD = f"cn=root,{BASE}", "root-of-the-tree"
PORTAL_DN, PORTAL_PASSWORD = f"cn=portal,ou=services,{BASE}", "portal-may-read"

INFORMATICS = f"ou=2026,ou=informatics,ou=students,{PEOPLE}"
EMPLOYEES = f"ou=employees,{PEOPLE}"
PHYSICS = f"ou={escape_dn_chars('Physics, applied')},{EMPLOYEES}"

STUDENTS, TEACHERS, STAFF = (f"cn={name},ou=roles,{GROUPS}" for name in ("students", "teachers", "staff"))
NETWORKS = f"cn=networks,ou=winter,ou=courses,{GROUPS}"
OPTICS = f"cn=optics,ou=winter,ou=courses,{GROUPS}"

_SCHEMA = Path("/etc/ldap/schema")
_MODULES = Path("/usr/lib/ldap")

# Attributes of Active Directory and 389 Directory Server that OpenLDAP has no schema for.
_CONFIGURATION = """
include {schema}/core.schema
include {schema}/cosine.schema
include {schema}/inetorgperson.schema
include {schema}/nis.schema
attributetype ( 1.2.840.113556.1.4.221 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.656 NAME 'userPrincipalName' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.8 NAME 'userAccountControl' EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.2 NAME 'objectGUID' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 2.16.840.1.113730.3.1.610 NAME 'nsAccountLock' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.55555.1 NAME 'foreignPerson' AUXILIARY MAY ( sAMAccountName $ userPrincipalName $ userAccountControl $ objectGUID $ nsAccountLock ) )
modulepath {modules}
moduleload back_mdb
moduleload memberof
moduleload ppolicy
pidfile {folder}/slapd.pid
TLSCACertificateFile {folder}/ca.pem
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
TLSVerifyClient never
sizelimit 500
database mdb
suffix "{base}"
rootdn "{root}"
rootpw {password}
directory {folder}/tree
dbnosync
index uid,mail,member,memberUid,entryUUID eq
index objectClass eq
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{portal}" read by anonymous {anonymous} by self read by * none
overlay memberof
memberof-refint TRUE
overlay ppolicy
"""


class SlapdMissing(Exception):
    """OpenLDAP's server is not installed."""


class NotStarted(Exception):
    """The server ended at once, as it does where a port is taken, or answers nobody."""


class Slapd:
    """One server and its tree. `dns` gives the DN of everybody of the tree by uid; the password of each is `password_of(uid)`."""

    def __init__(self, folder: Path, authority: Authority, *, anonymous_reads: bool = False) -> None:
        self.folder, self.authority = folder, authority
        self.port, self.tls_port = free_port(), free_port()
        self.dns: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "tree").mkdir(parents=True)
        (folder / "ca.pem").write_bytes(authority.certificate)
        self.present(authority, "127.0.0.1")
        anonymous = "read" if anonymous_reads else "auth"
        text = _CONFIGURATION.format(
            schema=_SCHEMA, modules=_MODULES, folder=folder, base=BASE, root=ROOT_DN, password=ROOT_PASSWORD, portal=PORTAL_DN, anonymous=anonymous
        )
        (folder / "slapd.conf").write_text(text)

    @property
    def uri(self) -> str:
        """An address, as libldap wants a certificate of `localhost` to be one of the computer's own name."""
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_uri(self) -> str:
        return f"ldaps://127.0.0.1:{self.tls_port}"

    @property
    def ca_file(self) -> Path:
        """The authority that clients are to trust."""
        return self.folder / "ca.pem"

    def present(self, authority: Authority, *names: str) -> None:
        """From its next start on, the server shows a certificate of this authority for these names."""
        certificate, key = authority.issue(*names)
        (self.folder / "server.pem").write_bytes(certificate)
        (self.folder / "server.key").write_bytes(key)

    # -- the process ---------------------------------------------------------------------------

    def start(self, *, tls: bool = True) -> None:
        addresses = f"ldap://127.0.0.1:{self.port}" + (f" ldaps://127.0.0.1:{self.tls_port}" if tls else "")
        command = [_program(self.folder), "-h", addresses, "-f", self.folder / "slapd.conf", "-d", "0"]
        with (self.folder / "slapd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 20
        answers = False
        while not answers:
            time.sleep(0.01)
            answers = self._answers()
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NotStarted((self.folder / "slapd.log").read_text())

    def _answers(self) -> bool:
        """Whoever merely listens there may be somebody else, who was quicker to take the port."""
        try:
            with self.as_root():
                return True
        except ldap.LDAPError:
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()  # nothing of the tree is to be kept
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """The server goes on listening, and answers nobody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # it may yet answer before

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    # -- the tree ------------------------------------------------------------------------------

    @contextmanager
    def as_root(self) -> Iterator[SimpleLDAPObject]:
        connection = ldap.initialize(self.uri)
        connection.set_option(ldap.OPT_TIMEOUT, 10)
        connection.simple_bind_s(ROOT_DN, ROOT_PASSWORD)
        try:
            yield connection
        finally:
            connection.unbind_s()

    def add(self, dn: str, classes: str, **attributes: str | bytes | list[str]) -> None:
        """An entry; `classes` are separated by blanks."""
        values = {"objectClass": classes.split(), **attributes}
        with self.as_root() as connection:
            connection.add_s(dn, [(name, _bytes(value)) for name, value in values.items()])

    def add_person(self, uid: str, first_name: str, last_name: str, place: str, *, rdn: str = "", **attributes: str | bytes) -> str:
        """Somebody with a mail address, unless `mail=""`; their DN. `rdn` replaces uid=… ."""
        dn = f"{rdn or f'uid={escape_dn_chars(uid)}'},{place}"
        attributes = {"mail": f"{uid}@uni.test", "userPassword": password_of(uid), **attributes}
        values = {name: value for name, value in attributes.items() if value}
        self.add(dn, "inetOrgPerson foreignPerson", uid=uid, cn=f"{first_name} {last_name}", givenName=first_name, sn=last_name, **values)
        self.dns[uid] = dn
        return dn

    def add_group(self, dn: str, *members: str) -> None:
        self.add(dn, "groupOfNames", member=list(members))

    def change(self, dn: str, **attributes: str | bytes | list[str] | None) -> None:
        """Replace these attributes; None removes one."""
        with self.as_root() as connection:
            connection.modify_s(dn, [(ldap.MOD_REPLACE, name, None if value is None else _bytes(value)) for name, value in attributes.items()])

    def join(self, group: str, member: str, attribute: str = "member") -> None:
        with self.as_root() as connection:
            connection.modify_s(group, [(ldap.MOD_ADD, attribute, [member.encode()])])

    def leave(self, group: str, member: str, attribute: str = "member") -> None:
        with self.as_root() as connection:
            connection.modify_s(group, [(ldap.MOD_DELETE, attribute, [member.encode()])])

    def rename(self, uid: str, new_uid: str) -> None:
        """The same person under another uid, and so under another DN; the mail address stays."""
        rdn, _, place = self.dns[uid].partition(",")
        assert rdn == f"uid={uid}"
        with self.as_root() as connection:
            connection.rename_s(self.dns[uid], f"uid={new_uid}", delold=1)
        self.dns[new_uid] = f"uid={new_uid},{place}"
        del self.dns[uid]

    def move(self, uid: str, place: str) -> None:
        rdn = ldap.dn.explode_dn(self.dns[uid])[0]
        with self.as_root() as connection:
            connection.rename_s(self.dns[uid], rdn, newsuperior=place)
        self.dns[uid] = f"{rdn},{place}"

    def delete(self, dn: str) -> None:
        with self.as_root() as connection:
            connection.delete_s(dn)

    def value(self, dn: str, attribute: str) -> bytes:
        """The first value of an attribute, operational ones too."""
        with self.as_root() as connection:
            ((_dn, found),) = connection.search_s(dn, ldap.SCOPE_BASE, attrlist=[attribute])
        return found[attribute][0]

    def plant(self) -> None:
        """The university's tree."""
        self.add(BASE, "dcObject organization", dc="uni", o="University")
        places = [
            PEOPLE,
            f"ou=students,{PEOPLE}",
            f"ou=informatics,ou=students,{PEOPLE}",
            INFORMATICS,
            EMPLOYEES,
            PHYSICS,
            GROUPS,
            f"ou=roles,{GROUPS}",
            f"ou=courses,{GROUPS}",
            f"ou=winter,ou=courses,{GROUPS}",
            f"ou=services,{BASE}",
        ]
        for place in places:
            self.add(place, "organizationalUnit", ou=ldap.dn.str2dn(place)[0][0][1])
        self.add(PORTAL_DN, "organizationalRole simpleSecurityObject", cn="portal", userPassword=PORTAL_PASSWORD)

        self.add_person("alice", "Alice", "Müller", INFORMATICS, sAMAccountName="alicem", userPrincipalName="alice@ad.uni.test", objectGUID=GUID_OF_ALICE)
        self.add_person("bob", "Bob", "Müller", INFORMATICS)
        self.add_person("nomail", "Nora", "Maillos", f"ou=students,{PEOPLE}", mail="")
        self.add_person("petra", "Petra", "Posix", INFORMATICS)
        self.add_person("carol", "Carol", "Groß", EMPLOYEES)
        self.add_person("dora", "Dora", "Ångström", EMPLOYEES)
        self.add_person("erik", "Erik", "Østergård", EMPLOYEES)
        self.add_person("jsmith", "John", "Smith", PHYSICS, rdn=f"cn={escape_dn_chars('Smith, John (#1) *')}")
        self.add_person("twin1", "Tina", "Twin", INFORMATICS, mail="lab@uni.test")
        self.add_person("twin2", "Tom", "Twin", INFORMATICS, mail="lab@uni.test")
        self.add_person("suspended", "Sus", "Pended", INFORMATICS, userAccountControl="514")
        self.add_person("barred", "Bar", "Red", INFORMATICS, nsAccountLock="TRUE")
        self.add_person("locked", "Loc", "Ked", INFORMATICS)
        self.change(self.dns["locked"], pwdAccountLockedTime="000001010000Z")

        # Students of a year are in a group of students; lecturers are in one of teachers, and two groups hold each other.
        year, lecturers = f"cn=informatics-2026,{GROUPS}", f"cn=lecturers,{GROUPS}"
        loop_a, loop_b = f"cn=loop-a,{GROUPS}", f"cn=loop-b,{GROUPS}"
        self.add_group(year, *(self.dns[uid] for uid in ("bob", "petra", "twin1", "twin2", "suspended", "barred", "locked")))
        self.add_group(STUDENTS, self.dns["alice"], self.dns["nomail"], year)
        self.add_group(lecturers, self.dns["dora"], self.dns["jsmith"])
        self.add_group(TEACHERS, self.dns["carol"], lecturers)
        self.add(STAFF, "groupOfUniqueNames", uniqueMember=[self.dns["erik"]])
        self.add_group(loop_a, self.dns["dora"])
        self.add_group(loop_b, loop_a)
        self.join(loop_a, loop_b)
        self.add_group(NETWORKS, self.dns["alice"], year)
        self.add_group(OPTICS, self.dns["jsmith"])
        self.add(f"cn=helpdesk,{GROUPS}", "posixGroup", gidNumber="5000", memberUid=["petra"])


GUID_OF_ALICE = bytes.fromhex("33221100554477668899aabbccddeeff")  # 00112233-4455-6677-8899-aabbccddeeff


def password_of(uid: str) -> str:
    return f"{uid}-opens-Sesame-7"


@contextmanager
def black_hole() -> Iterator[str]:
    """The URI of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"ldap://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def planted_slapd() -> Iterator[Slapd]:
    """A server with the university's tree, gone afterwards. Raises SlapdMissing."""
    folder = Path(tempfile.mkdtemp(prefix="lt-slapd-"))
    server = Slapd(folder, Authority("Authority of the university"))
    try:
        try:
            server.start()
        except NotStarted:  # somebody took a port after it was found free
            server.stop()
            server.port, server.tls_port = free_port(), free_port()
            server.start()
        server.plant()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _program(folder: Path) -> Path:
    """The server's program: a copy of it where AppArmor confines the installed one to the system's own directory."""
    found = shutil.which("slapd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if not found:
        raise SlapdMissing
    if not Path("/etc/apparmor.d/usr.sbin.slapd").exists():
        return Path(found)
    copy = folder / "slapd"
    if not copy.exists():
        shutil.copy(found, copy)
    return copy


def _bytes(value: str | bytes | list[str]) -> list[bytes]:
    values = value if isinstance(value, list) else [value]
    return [one if isinstance(one, bytes) else one.encode() for one in values]
