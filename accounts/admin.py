"""The record of what people did. People themselves: `accounts.admin_people`."""

from .admin_audit import AuditEntryAdmin
from .admin_read_only import ReadOnly

__all__ = ["AuditEntryAdmin", "ReadOnly"]
