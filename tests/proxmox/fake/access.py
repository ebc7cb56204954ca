"""Who may do what: users, groups, API tokens, grants, tickets."""

import hmac
import re
import secrets
import time
import urllib.parse
from dataclasses import dataclass

from fakepve import generic, shapes
from fakepve.model import PveError
from fakepve.server import API, FORMATS

TOKEN = "PVEAPIToken="
ROOT = "root@pam"

VM_USER = ["VM.Audit", "VM.Backup", "VM.Config.CDROM", "VM.Config.Cloudinit", "VM.Console", "VM.GuestAgent.Audit", "VM.PowerMgmt"]
ROLES = {
    "Administrator": list(shapes.PRIVILEGES),
    "NoAccess": [],
    "PVEAuditor": ["Datastore.Audit", "Mapping.Audit", "Pool.Audit", "SDN.Audit", "Sys.Audit", "VM.Audit", "VM.GuestAgent.Audit"],
    "PVEDatastoreUser": ["Datastore.AllocateSpace", "Datastore.Audit"],
    "PVEPoolUser": ["Pool.Audit"],
    "PVESDNUser": ["SDN.Audit", "SDN.Use"],
    "PVETemplateUser": ["VM.Audit", "VM.Clone"],
    "PVEVMAdmin": [privilege for privilege in shapes.PRIVILEGES if privilege.startswith("VM.")],
    "PVEVMUser": VM_USER,
}
PERMISSION_PATHS = ("/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms")

# "Only root" means the login, never one of root's tokens.
generic.root_only = lambda user: user == ROOT


@dataclass
class Token:
    secret: str
    privsep: bool = True
    expire: int = 0  # seconds since the epoch, 0 for never


def levels(path: str) -> list[str]:
    """'/vms/100' as '/', '/vms', '/vms/100'."""
    parts = [part for part in path.split("/") if part]
    return ["/", *("/" + "/".join(parts[: length + 1]) for length in range(len(parts)))]


class AccessRules:
    """Mixin of the fake cluster. `acl` holds who -> [(path, privileges, propagates)]."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.acl = {}  # None would let everybody do everything
        self.tokens: dict[str, Token] = {}
        self.groups: dict[str, set[str]] = {}

    # -- what others set up ------------------------------------------------------------------

    def add_token(self, user, name, privsep=True, expire=0):
        """Returns the secret, which Proxmox shows this once."""
        token = Token(str(_uuid()), privsep, expire)
        self.tokens[f"{user}!{name}"] = token
        return token.secret

    def grant(self, user, path, *privileges, propagate=True):
        """To a user, a token ("user@realm!name") or a group ("@group")."""
        self.acl.setdefault(user, []).append((path.rstrip("/") or "/", set(privileges), propagate))

    def revoke(self, user, path=None):
        self.acl[user] = [entry for entry in self.acl.get(user, []) if path not in (None, entry[0])]

    # -- what they may ------------------------------------------------------------------------

    def privileges(self, who, path):
        """{privilege: propagates} of a user or token at a path. The deepest level with an entry counts,
        and what pools give is added. A privilege-separated token has what both it and its user have
        (observed on PVE 9.2: a fresh one has nothing)."""
        user, _, name = who.partition("!")
        if name:
            token = self.tokens.get(who)
            if token is None:
                return {}
            of_user = self.privileges(user, path)
            if not token.privsep:
                return of_user
            return {privilege: propagates for privilege, propagates in self._granted(who, path).items() if privilege in of_user}
        if user == ROOT:
            return dict.fromkeys(shapes.PRIVILEGES, 1)
        return self._granted(user, path)

    def _granted(self, who, path):
        found = dict(self._at(who, path))
        for pool in self._pools_of(path):
            found.update(self._at(who, f"/pool/{pool}"))
        return found

    def _at(self, who, path):
        subjects = [[who], ["@" + group for group, members in self.groups.items() if who in members]]
        found = {}
        for level in levels(path):
            for names in subjects:
                entries = [entry for name in names for entry in self.acl.get(name, []) if entry[0] == level and (entry[2] or level == path)]
                if entries:
                    found = {privilege: int(propagates) for _, privileges, propagates in entries for privilege in privileges}
                    break
        return found

    def _pools_of(self, path):
        kind, _, name = path.strip("/").partition("/")
        if kind == "vms" and name.isdigit():
            return [pool for pool, members in self.pools.items() if int(name) in members]
        if kind == "storage":
            return [pool for pool, details in self.pool_info.items() if name in details["storage"]]
        return []

    def allowed(self, user, path, priv):
        return priv in self.privileges(user, path)

    async def _permissions(self, values, user):
        """GET /access/permissions: {path: {privilege: propagates}}; an empty object for those who have nothing."""
        who = values.get("userid") or user
        if values.get("path"):
            paths = [values["path"]]
        else:
            granted = {entry[0] for name in (who, who.partition("!")[0]) for entry in self.acl.get(name, [])}
            grouped = {entry[0] for name, entries in self.acl.items() if name.startswith("@") for entry in entries}
            in_pools = {f"/vms/{vmid}" for members in self.pools.values() for vmid in members}
            paths = sorted({*PERMISSION_PATHS, *granted, *grouped, *in_pools})
        held = {path: self.privileges(who, path) for path in paths}
        return {path: dict(sorted(privileges.items())) for path, privileges in held.items() if privileges}

    # -- who they are ---------------------------------------------------------------------------

    def _authenticate(self, request):
        """The reasons are those of PVE since January 2026."""
        given = request.headers.get("Authorization", "")
        if request.path in [prefix + "/access/ticket" for prefix in FORMATS]:
            if given.startswith(TOKEN):
                raise PveError(403, "URI '/access/ticket' not available with API token, need proper ticket.")
            return None
        if given.startswith(TOKEN):
            name, _, secret = given.removeprefix(TOKEN).partition("=")
            token = self.tokens.get(name)
            if token is None or not hmac.compare_digest(token.secret, secret) or 0 < token.expire < time.time():
                raise PveError(401, "Authentication failed!")
            return name
        ticket = urllib.parse.unquote(request.cookies.get("PVEAuthCookie", ""))  # raw and percent-encoded are both taken
        if not ticket:
            raise PveError(401, "No ticket")
        session = self.tickets.get(ticket)
        if session is None or session["expires"] < time.time():
            raise PveError(401, "Authentication failed!")
        if request.method not in ("GET", "HEAD") and request.headers.get("CSRFPreventionToken") != session["csrf"]:
            raise PveError(401, "Permission denied - invalid csrf token")
        return session["user"]

    def check_password(self, user, password):
        """A ticket that is still good is taken for the password: clients renew it so (observed on PVE 9.2)."""
        session = self.tickets.get(password)
        if session is not None:
            return session["user"] == user and session["expires"] > time.time()
        return super().check_password(user, password)

    # -- reading it back --------------------------------------------------------------------------

    def _routes_people(self):
        return [
            ("GET", "/access/users/{userid}", self._user_read),
            ("GET", "/access/users/{userid}/token/{tokenid}", self._token_read),
            ("GET", "/access/groups/{groupid}", self._group_read),
        ]

    def _known(self, userid):
        if userid != self.user and userid not in self.users:
            raise PveError(500, f"no such user ('{userid}')")

    async def _user_read(self, values, user):
        self._known(values["userid"])
        groups = sorted(group for group, members in self.groups.items() if values["userid"] in members)
        return {"enable": 1, "expire": 0, "groups": groups, "tokens": self._tokens_of(values["userid"])}

    def _tokens_of(self, userid):
        own = {name.partition("!")[2]: token for name, token in self.tokens.items() if name.startswith(userid + "!")}
        return {name: {"privsep": int(token.privsep), "expire": token.expire} for name, token in own.items()}

    async def _token_read(self, values, user):
        tokens = self._tokens_of(values["userid"])
        if values["tokenid"] not in tokens:
            raise PveError(500, f"no such token '{values['tokenid']}' for user '{values['userid']}'")
        return tokens[values["tokenid"]]

    async def _group_read(self, values, user):
        if values["groupid"] not in self.groups:
            raise PveError(500, f"group '{values['groupid']}' does not exist")
        return {"members": sorted(self.groups[values["groupid"]])}

    def path_template(self, request):
        """'/nodes/{node}/qemu/{vmid}/clone' of a request, or its path where the API knows no such."""
        match = self.resolve(request, API)
        return match.template if match else re.sub(r"^/api2/\w+", "", request.path)


def _uuid():
    value = secrets.token_hex(16)
    return "-".join((value[:8], value[8:12], value[12:16], value[16:20], value[20:]))
