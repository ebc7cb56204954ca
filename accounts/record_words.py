"""The record in sentences: "Anna Maier opened the screen of web-07"."""

from typing import Any

from django.utils.functional import Promise
from django.utils.html import conditional_escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .models import AuditEntry

# %(who)s did it, %(what)s is the object it was done to; other names are those of the entry's data.
_SENTENCES: dict[str, Promise | str] = {
    # people
    "user.signed_in": gettext_lazy("%(who)s signed in"),
    "user.signed_out": gettext_lazy("%(who)s signed out"),
    "user.signed_up": gettext_lazy("%(who)s made an account"),
    "user.sign_in_failed": gettext_lazy("Signing in as %(what)s was refused"),
    "user.password_changed": gettext_lazy("%(who)s changed the password"),
    "user.password_set": gettext_lazy("%(who)s set a password"),
    "user.password_reset_asked": gettext_lazy("A new password for %(what)s was asked for by mail"),
    "user.password_reset": gettext_lazy("%(who)s set a new password by mail"),
    "user.address_added": gettext_lazy("%(who)s added the address %(email)s"),
    "user.address_removed": gettext_lazy("%(who)s removed the address %(email)s"),
    "user.address_confirmed": gettext_lazy("%(who)s confirmed the address %(email)s"),
    "user.address_changed": gettext_lazy("%(who)s made %(after)s the main address"),
    "user.profile": gettext_lazy("%(who)s changed their profile"),
    "user.role": gettext_lazy("%(who)s changed the role of %(what)s from %(before)s to %(after)s"),
    "user.from_realm": gettext_lazy("%(who)s came in with an account of the cluster %(cluster)s"),
    "user.from_outside": gettext_lazy("%(what)s came in with an account of another system"),
    "user.came_back": gettext_lazy("%(who)s opened the account of %(what)s again, who is back"),
    "user.left": gettext_lazy("%(who)s closed the account of %(what)s, who has left"),
    "user.made": gettext_lazy("%(who)s made the account of %(what)s"),
    "user.change": gettext_lazy("%(who)s changed %(what)s"),
    "user.limits": gettext_lazy("%(who)s changed what %(what)s may have"),
    "user.deactivate": gettext_lazy("%(who)s closed the account of %(what)s"),
    "user.reactivate": gettext_lazy("%(who)s opened the account of %(what)s again"),
    "user.superuser": gettext_lazy("%(who)s changed whether %(what)s is a superuser"),
    "user.address": gettext_lazy("%(who)s gave %(what)s the address %(email)s"),
    "user.address_vouched": gettext_lazy("%(who)s marked the address %(email)s of %(what)s as confirmed"),
    "user.password_mail": gettext_lazy("%(who)s sent %(what)s a mail to choose a password"),
    "user.password_given": gettext_lazy("%(who)s gave %(what)s a password"),
    "user.keep": gettext_lazy("%(who)s kept the account of %(what)s, who asked to be removed"),
    "role.rules": gettext_lazy("%(who)s changed the rules of the role %(what)s"),
    "user.remove": gettext_lazy("%(who)s removed %(what)s"),
    "user.export": gettext_lazy("%(who)s took their data away as a file"),
    "user.removal_asked": gettext_lazy("%(who)s asked to be removed"),
    "user.removal_taken_back": gettext_lazy("%(who)s stays after all"),
    "user.import": gettext_lazy("%(who)s imported people from a file"),
    "user.view_as": gettext_lazy("%(who)s began to look at the portal as %(what)s"),
    "user.view_as_ended": gettext_lazy("%(who)s stopped looking at the portal as %(what)s"),
    "second_factor.added": gettext_lazy("%(who)s added a second factor"),
    "second_factor.removed": gettext_lazy("%(who)s removed a second factor"),
    "second_factor.reset": gettext_lazy("%(who)s took the second factors of %(what)s away"),
    "second_factor.new_codes": gettext_lazy("%(who)s made new recovery codes"),
    "second_factor.recovery_code_used": gettext_lazy("%(who)s used a recovery code"),
    "second_factor.wrong_code": gettext_lazy("A wrong second factor of %(what)s was refused"),
    "session.end": gettext_lazy("%(who)s signed out a device of %(what)s"),
    "session.end_all": gettext_lazy("%(who)s signed out all devices of %(what)s"),
    "session.end_oldest": gettext_lazy("%(who)s was signed out where they were seen longest ago"),
    "ssh_key.add": gettext_lazy("%(who)s added the SSH key %(what)s"),
    "ssh_key.remove": gettext_lazy("%(who)s removed the SSH key %(what)s"),
    "identity.linked": gettext_lazy("%(who)s connected an account of another system"),
    "identity.unlinked": gettext_lazy("%(who)s disconnected an account of another system"),
    "identity.renamed": gettext_lazy("%(what)s has another name in the other system"),
    "identity.names": gettext_lazy("%(what)s has another first or last name in the other system"),
    "identity.missing": gettext_lazy("%(what)s was not found in the other system, or is disabled there"),
    "identity.found": gettext_lazy("%(what)s was found in the other system again"),
    "token.make": gettext_lazy("%(who)s made the API token %(what)s"),
    "token.revoke": gettext_lazy("%(who)s revoked the API token %(what)s"),
    "token.use": gettext_lazy("%(who)s used the API token %(what)s from a new address"),
    "token.refused": gettext_lazy("An API token was refused"),
    "directory.sync": gettext_lazy("%(who)s brought the people of the directory up to date"),
    # machines
    "machine.provision": gettext_lazy("%(who)s asked for the machine %(what)s"),
    "machine.start": gettext_lazy("%(who)s started %(what)s"),
    "machine.stop": gettext_lazy("%(who)s shut %(what)s down"),
    "machine.force_off": gettext_lazy("%(who)s forced %(what)s off"),
    "machine.restart": gettext_lazy("%(who)s restarted %(what)s"),
    "machine.revert": gettext_lazy("%(who)s reverted %(what)s"),
    "machine.snapshot": gettext_lazy("%(who)s took a snapshot of %(what)s"),
    "machine.delete_snapshot": gettext_lazy("%(who)s deleted a snapshot of %(what)s"),
    "machine.resize": gettext_lazy("%(who)s resized %(what)s"),
    "machine.destroy": gettext_lazy("%(who)s deleted %(what)s"),
    "machine.adopt": gettext_lazy("%(who)s adopted %(what)s"),
    "machine.release": gettext_lazy("%(who)s released %(what)s"),
    "machine.destroying_allowed": gettext_lazy("%(who)s allowed that %(what)s is deleted and resized"),
    "machine.destroying_forbidden": gettext_lazy("%(who)s forbade that %(what)s is deleted and resized"),
    "machine.credentials": gettext_lazy("%(who)s was shown the password of %(what)s"),
    "machine.rdp_file": gettext_lazy("%(who)s got the remote desktop file of %(what)s"),
    "machine.seen_on": gettext_lazy("%(what)s was switched on outside the portal"),
    "machine.seen_off": gettext_lazy("%(what)s was switched off, from inside or outside the portal"),
    "machine.not_found": gettext_lazy("%(what)s was not found on its cluster any more"),
    "operation.succeeded": gettext_lazy("Work on %(what)s is done: %(kind)s"),
    "operation.failed": gettext_lazy("Work on %(what)s failed: %(kind)s"),
    "operation.cancelled": gettext_lazy("Work on %(what)s was cancelled by %(who)s: %(kind)s"),
    "request.ask": gettext_lazy("%(who)s asked for a machine: %(what)s"),
    "request.withdraw": gettext_lazy("%(who)s withdrew the request %(what)s"),
    "request.approved": gettext_lazy("%(who)s approved the request %(what)s"),
    "request.rejected": gettext_lazy("%(who)s turned the request %(what)s down"),
    "request.ready": gettext_lazy("The machine of the request %(what)s is ready"),
    "request.failed": gettext_lazy("The machine of the request %(what)s could not be made"),
    "request.until": gettext_lazy("%(who)s changed the last day of %(what)s"),
    "request.ended": gettext_lazy("The last day of %(what)s is over"),
    # consoles
    "console.open": gettext_lazy("%(who)s opened the %(kind)s of %(what)s"),
    "console.close": gettext_lazy("%(who)s closed the %(kind)s of %(what)s after %(seconds)s s"),
    # classes
    "class.create": gettext_lazy("%(who)s made the class %(what)s"),
    "class.edit": gettext_lazy("%(who)s changed the class %(what)s"),
    "class.archive": gettext_lazy("%(who)s archived the class %(what)s"),
    "class.restore": gettext_lazy("%(who)s restored the class %(what)s"),
    "class.hand_over": gettext_lazy("%(who)s gave the class %(what)s to %(after)s"),
    "class.join": gettext_lazy("%(who)s joined the class %(what)s"),
    "class.leave": gettext_lazy("%(who)s left the class %(what)s"),
    "class.remove_student": gettext_lazy("%(who)s removed %(student)s from the class %(what)s"),
    "class.left_group": gettext_lazy("%(student)s is no more in the group of the class %(what)s"),
    "class.back_in_group": gettext_lazy("%(student)s is in the group of the class %(what)s again"),
    "class.restart": gettext_lazy("%(who)s restarted the machines of %(what)s"),
    "class.force_off": gettext_lazy("%(who)s forced the machines of %(what)s off"),
    "class.snapshot": gettext_lazy("%(who)s took snapshots of the machines of %(what)s"),
    "class.destroy": gettext_lazy("%(who)s deleted machines of %(what)s"),
    "class.start": gettext_lazy("%(who)s started the machines of %(what)s"),
    "class.stop": gettext_lazy("%(who)s shut the machines of %(what)s down"),
    "class.revert": gettext_lazy("%(who)s reverted the machines of %(what)s"),
    "invite.create": gettext_lazy("%(who)s made an invite to %(what)s"),
    "invite.revoke": gettext_lazy("%(who)s withdrew an invite to %(what)s"),
    "pool.add": gettext_lazy("%(who)s added %(count)s machines to %(what)s"),
    "pool.remove": gettext_lazy("%(who)s took machines from %(what)s"),
    "pool.refill": gettext_lazy("%(who)s made machines of %(what)s anew"),
    "pool.assign": gettext_lazy("%(what)s was given to %(student)s"),
    # the portal
    "cluster.add": gettext_lazy("%(who)s added the cluster %(what)s"),
    "cluster.change": gettext_lazy("%(who)s changed the cluster %(what)s"),
    "cluster.loaded": gettext_lazy("The cluster %(what)s was read from the file of clusters"),
    "cluster.check": gettext_lazy("%(who)s had the cluster %(what)s checked"),
    "cluster.sync_templates": gettext_lazy("%(who)s had the templates of %(what)s looked for"),
    "template.offer": gettext_lazy("%(who)s changed to whom the template %(what)s is offered"),
    "template.found": gettext_lazy("The template %(what)s was found on %(cluster)s"),
    "template.gone": gettext_lazy("The template %(what)s is gone from %(cluster)s"),
    "keys.rotated": gettext_lazy("Secrets were encrypted anew: %(what)s"),
    "admin.add": gettext_lazy("%(who)s added %(what)s in the administration"),
    "admin.change": gettext_lazy("%(who)s changed %(what)s in the administration"),
    "admin.delete": gettext_lazy("%(who)s deleted %(what)s in the administration"),
    "audit.export": gettext_lazy("%(who)s exported the record"),
    "audit.forgotten": gettext_lazy("%(who)s forgot %(count)s entries of the record that were kept long enough"),
}

# The same by somebody else than usual, as `by` or the beginning of `source` in the entry's data tells.
_BY: dict[tuple[str, str], Promise | str] = {
    ("user.from_outside", "directory"): gettext_lazy("%(what)s came in with an account of the directory"),
    ("user.address", "directory"): gettext_lazy("The directory gave %(what)s the address %(email)s"),
    ("user.address", "sso"): gettext_lazy("Single sign-on gave %(what)s the address %(email)s"),
    ("class.join", "directory"): gettext_lazy("The directory put %(student)s into the class %(what)s"),
    ("class.join", "import"): gettext_lazy("%(who)s put %(student)s into the class %(what)s"),
}

# They tell by themselves that something was refused or failed.
_OF_FAILURES = {
    *("user.sign_in_failed", "second_factor.wrong_code", "token.refused"),
    *("operation.failed", "operation.cancelled", "request.failed", "machine.not_found"),
}

# What the record can be narrowed to, and the beginnings of the actions that belong to it.
GROUPS: dict[str, tuple[Promise | str, tuple[str, ...]]] = {
    "people": (gettext_lazy("Accounts and signing in"), ("user.", "role.", "second_factor.", "session.", "token.", "ssh_key.", "identity.", "directory.")),
    "machines": (gettext_lazy("Machines"), ("machine.", "operation.", "request.")),
    "consoles": (gettext_lazy("Consoles and credentials"), ("console.", "machine.credentials", "machine.rdp_file")),
    "classes": (gettext_lazy("Classes"), ("class.", "invite.", "pool.")),
    "clusters": (gettext_lazy("Clusters and templates"), ("cluster.", "template.")),
    "portal": (gettext_lazy("Administration and record"), ("admin.", "keys.", "audit.")),
}


class _Words(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "?"


def sentence(entry: AuditEntry, who: str, what: str) -> SafeString:
    """What happened, as HTML. Both are escaped unless they are safe, and so is what the entry's data say."""
    by = str(entry.data.get("by") or entry.data.get("source") or "").split(":")[0]
    known = _BY.get((entry.action, by)) or _SENTENCES.get(entry.action, gettext_lazy("%(who)s: %(action)s %(what)s"))
    told = {name: str(value) for name, value in entry.data.items() if isinstance(value, str | int | float)}
    words = _Words({name: conditional_escape(value) for name, value in {**told, "action": entry.action, "who": who, "what": what}.items()})
    told_whole = str(known) % words
    if entry.outcome != "ok" and entry.action not in _OF_FAILURES:
        told_whole = _("Not done: %(sentence)s") % {"sentence": told_whole}
    return mark_safe(told_whole)  # noqa: S308 - every word is escaped, the sentence is ours


def name_of_actor(entry: AuditEntry) -> str:
    """Needs `actor` fetched with the entry: whoever is gone has no row any more."""
    if entry.actor_id is None:
        return _("The portal") if entry.actor_name == "portal" else _("Somebody")
    return entry.actor.unmistakable if entry.actor else entry.actor_name
