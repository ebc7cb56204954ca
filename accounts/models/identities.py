"""Whom systems outside the portal take a person for."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from .person import Role, User

DIRECTORY = "directory"  # source of those of the university directory; those of single sign-on are "sso:<provider>"


class Identity(models.Model):
    """An account outside the portal that somebody signs in with. It is known by `uid`, which its own system never
    changes and never gives to another (entryUUID, objectGUID, `sub`): no name or address that is typed or claimed
    leads to a person who was not made, or linked by themselves, for that identity."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="identities", verbose_name=_("person"))
    source = models.CharField(_("source"), max_length=60)
    uid = models.CharField(_("stable id"), max_length=255)
    name = models.CharField(_("name there"), max_length=255, blank=True)  # what is typed; may change
    dn = models.TextField(_("distinguished name"), blank=True, default="")  # of the directory's; changes when the entry moves
    email = models.EmailField(_("e-mail address"), blank=True, default="")  # as last told; the person's own may be another
    groups = models.JSONField(_("groups"), default=list, blank=True)  # as last read
    role_given = models.CharField(_("role given"), max_length=10, choices=Role.choices, blank=True, default="")  # "": it gave none, so it takes none
    seen_at = models.DateTimeField(_("last seen"), null=True, blank=True)
    missing_since = models.DateTimeField(_("gone since"), null=True, blank=True)
    closed_at = models.DateTimeField(_("closed"), null=True, blank=True)  # the person was deactivated because of this identity, and by nobody else

    class Meta:
        ordering = ["source", "name"]
        verbose_name = _("identity")
        verbose_name_plural = _("identities")
        constraints = [models.UniqueConstraint(fields=["source", "uid"], name="identity_once")]

    def __str__(self) -> str:
        return f"{self.source}: {self.name or self.uid}"


class IdentityName(models.Model):
    """One of the names that an identity of the directory can be signed in as, case folded: wrong passwords count for whom
    they are tried on, whichever name is typed."""

    identity = models.ForeignKey(Identity, on_delete=models.CASCADE, related_name="names", verbose_name=_("identity"))
    name = models.CharField(_("name there"), max_length=255)

    class Meta:
        verbose_name = _("name of an identity")
        verbose_name_plural = _("names of identities")
        constraints = [models.UniqueConstraint(fields=["name", "identity"], name="identity_name_once")]

    def __str__(self) -> str:
        return self.name


class DirectorySync(models.Model):
    """One night's look at everybody of the directory, by the process that holds the lease."""

    day = models.DateField(unique=True)
    begun_at = models.DateTimeField(auto_now_add=True)
    lease = models.CharField(max_length=32)
    lease_until = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-day"]

    def __str__(self) -> str:
        return str(self.day)
