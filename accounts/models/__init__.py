from .audit import AuditEntry
from .identities import DIRECTORY, DirectorySync, Identity, IdentityName
from .keys import ApiToken, Scope, SshKey
from .letters import Letter, Notice, PasswordLetter, WrittenLetter
from .person import People, Role, RolePolicy, User

__all__ = [
    "DIRECTORY",
    "ApiToken",
    "AuditEntry",
    "DirectorySync",
    "Identity",
    "IdentityName",
    "Letter",
    "Notice",
    "PasswordLetter",
    "People",
    "Role",
    "RolePolicy",
    "Scope",
    "SshKey",
    "User",
    "WrittenLetter",
]
