from .audit import AuditEntry
from .identities import DIRECTORY, DirectorySync, Identity
from .keys import ApiToken, Scope, SshKey
from .letters import AddressLetter, PasswordLetter
from .person import People, Role, RolePolicy, User

__all__ = [
    "DIRECTORY",
    "AddressLetter",
    "ApiToken",
    "AuditEntry",
    "DirectorySync",
    "Identity",
    "PasswordLetter",
    "People",
    "Role",
    "RolePolicy",
    "Scope",
    "SshKey",
    "User",
]
