from .audit import AuditEntry
from .identities import DIRECTORY, Identity
from .keys import ApiToken, Scope, SshKey
from .person import People, Role, RolePolicy, User

__all__ = ["DIRECTORY", "ApiToken", "AuditEntry", "Identity", "People", "Role", "RolePolicy", "Scope", "SshKey", "User"]
