"""Where machines are made, and of what."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.fields import EncryptedTextField


class ClusterKind(models.TextChoices):
    LIBVIRT = "libvirt", "libvirt/KVM"
    PROXMOX = "proxmox", "Proxmox VE"
    SIMULATOR = "simulator", _("Simulator")


# What a cluster of Proxmox VE bears by experience; more at once waits for its locks.
PROXMOX_LIMITS = {"limit_create": 6, "limit_create_per_node": 2, "limit_create_per_storage": 2, "limit_power_per_node": 4}


class Cluster(models.Model):
    """One hypervisor installation. Only the watcher writes the columns under *seen*."""

    name = models.CharField(max_length=60, unique=True)
    kind = models.CharField(max_length=20, choices=ClusterKind)
    config = models.JSONField(default=dict, blank=True, help_text=_("Addresses and settings; never a secret."))
    secret = EncryptedTextField(blank=True, default="")
    terminal_password = EncryptedTextField(blank=True, default="")  # of the token's user, where text consoles take no tokens
    maintenance = models.BooleanField(default=False, help_text=_("Nothing new is begun here while this is on."))
    # Networks guests may have addresses in, as CIDR. The portal connects to no other address a guest reports.
    networks = models.JSONField(default=list, blank=True)

    # How many pieces of work of one sort may be under way here at once.
    limit_create = models.PositiveSmallIntegerField(default=4, validators=[MinValueValidator(1)])
    limit_power = models.PositiveSmallIntegerField(default=8, validators=[MinValueValidator(1)])
    limit_per_template = models.PositiveSmallIntegerField(default=4, validators=[MinValueValidator(1)])
    # The same on one node, and of clones on one storage. 0: no limit.
    limit_create_per_node = models.PositiveSmallIntegerField(default=0)
    limit_create_per_storage = models.PositiveSmallIntegerField(default=0)
    limit_power_per_node = models.PositiveSmallIntegerField(default=0)
    # Machines that are on but do not answer yet. Emulated guests boot quicker four at a time than all at once. 0: no limit.
    limit_booting = models.PositiveSmallIntegerField(default=0)
    stop_deadline = models.PositiveSmallIntegerField(
        default=60, validators=[MaxValueValidator(1200)], help_text=_("Seconds a guest gets to shut down before it is switched off, at most 1200.")
    )

    # Seen.
    reachable = models.BooleanField(default=False)
    seen_at = models.DateTimeField(null=True, blank=True)  # last whole inventory
    problem = models.CharField(max_length=300, blank=True, default="")
    disk_free_gib = models.PositiveIntegerField(null=True, editable=False)
    disk_total_gib = models.PositiveIntegerField(null=True, editable=False)
    # After it was overloaded, by sort of work: {"create": {"to": 2, "at": ISO time}}. Written by services.easing.
    eased = models.JSONField(default=dict, blank=True, editable=False)
    orphans = models.JSONField(default=list, blank=True)  # {ref, name}: with our label and no row; reported, never removed
    taken = models.JSONField(default=list, blank=True, editable=False)  # numbers of our range that others have
    adopted = models.JSONField(default=list, blank=True, editable=False)  # refs of machines that were there before; written by services.adoption
    # What staff wish the watcher to do next; it clears them.
    check_asked_at = models.DateTimeField(null=True, blank=True, editable=False)
    sync_asked_at = models.DateTimeField(null=True, blank=True, editable=False)
    watcher = models.CharField(max_length=64, blank=True, default="")  # token of the watcher that holds the lease
    watcher_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]
        verbose_name = _("cluster")
        verbose_name_plural = _("clusters")

    def __str__(self) -> str:
        return self.name

    @property
    def simulated(self) -> bool:
        return self.kind == ClusterKind.SIMULATOR


class ClusterReport(models.Model):
    """What the watcher found on a cluster, for its page in the admin: too much to be read with every machine."""

    cluster = models.OneToOneField(Cluster, on_delete=models.CASCADE, related_name="report")
    checks = models.JSONField(default=list)  # providers.types.Check as {name, ok, detail}
    checked_at = models.DateTimeField(null=True)
    guests = models.JSONField(default=list)  # without anybody's label: {ref, name, kind, node, power}
    guests_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return str(self.cluster)


class BurnedRef(models.Model):
    """A number that no new machine gets for a while: it was ours, or found to be somebody else's.
    What is done late to the old machine must never meet a new one."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="burned")
    ref = models.CharField(max_length=100)
    until = models.DateTimeField()

    class Meta:
        ordering = ["ref"]
        constraints = [models.UniqueConstraint(fields=["cluster", "ref"], name="burned_once_per_cluster")]

    def __str__(self) -> str:
        return self.ref


class Node(models.Model):
    """A host of a cluster, as last seen."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="nodes")
    name = models.CharField(max_length=100)
    online = models.BooleanField(default=True)
    cores = models.PositiveIntegerField(default=0)
    memory_total_mib = models.PositiveIntegerField(default=0)
    memory_free_mib = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["name"]
        verbose_name = _("node")
        verbose_name_plural = _("nodes")
        constraints = [models.UniqueConstraint(fields=["cluster", "name"], name="node_once_per_cluster")]

    def __str__(self) -> str:
        return self.name


class TemplateKind(models.TextChoices):
    VM = "vm", _("Virtual machine")
    CONTAINER = "container", _("Container")


class Audience(models.TextChoices):
    EVERYBODY = "everybody", _("Everybody")
    TEACHERS = "teachers", _("Teachers and staff")
    STAFF = "staff", _("Staff")
    CHOSEN = "chosen", _("The people chosen below, and staff")


class Template(models.Model):
    """What machines are cloned from. `ref` is the cluster's name for it."""

    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="templates")
    ref = models.CharField(max_length=200)
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=10, choices=TemplateKind, default=TemplateKind.VM, editable=False)
    description = models.CharField(max_length=300, blank=True, default="")
    username = models.CharField(max_length=32, default="student", help_text=_("The account that is made in the guest."))
    cores = models.PositiveSmallIntegerField(default=1)
    memory_mib = models.PositiveIntegerField(_("memory, MiB"), default=512)
    disk_gib = models.PositiveIntegerField(_("disk, GiB"), null=True, blank=True, help_text=_("Empty: as the image."))
    linked = models.BooleanField(default=True, help_text=_("Clones share the template's disk: made in no time, small."))
    seeded = models.BooleanField(
        _("own credentials"),
        default=True,
        help_text=_("Each machine gets a user, a password and a key of its own. Off: all have the accounts of the template."),
    )
    rdp = models.BooleanField(_("has RDP"), default=False, help_text=_("The guest has a remote desktop (RDP); its people get a file that opens it."))
    active = models.BooleanField(default=True, help_text=_("Offered to those who may use it."))
    audience = models.CharField(_("who may use it"), max_length=10, choices=Audience, default=Audience.EVERYBODY)
    people = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True, related_name="+", verbose_name=_("chosen people"))
    tiers: "models.ManyToManyField[Tier, models.Model]" = models.ManyToManyField(
        "Tier", blank=True, related_name="+", verbose_name=_("tiers"), help_text=_("None: all of them.")
    )
    # As last seen on the cluster; `node` and `storage` are empty where clones of it may be made anywhere.
    present = models.BooleanField(_("on the cluster"), default=True)
    node = models.CharField(max_length=100, blank=True, default="", editable=False)
    storage = models.CharField(max_length=100, blank=True, default="", editable=False)

    class Meta:
        ordering = ["name"]
        verbose_name = _("template")
        verbose_name_plural = _("templates")
        constraints = [models.UniqueConstraint(fields=["cluster", "ref"], name="template_once_per_cluster")]

    def __str__(self) -> str:
        return self.name

    @property
    def about(self) -> str:
        """What people should know before they choose it."""
        shared = "" if self.seeded else gettext("all machines of it have the accounts of the template")
        return " · ".join(filter(None, (self.description, shared)))


class Tier(models.Model):
    """A size people may ask for."""

    name = models.CharField(max_length=40, unique=True)
    cores = models.PositiveSmallIntegerField()
    memory_mib = models.PositiveIntegerField(_("memory, MiB"))
    disk_gib = models.PositiveIntegerField(_("disk, GiB"))
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position", "cores"]
        verbose_name = _("tier")
        verbose_name_plural = _("tiers")

    def __str__(self) -> str:
        return self.name
