"""The settings of a cluster, as staff enter them."""

import re
from collections.abc import Callable
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from machines.models import Cluster, ClusterKind
from machines.models.cluster import PROXMOX_LIMITS
from machines.providers import notation
from machines.providers.room import RESERVE_MIB
from machines.providers.types import VMIDS
from machines.services import addresses, clusters_file
from machines.services.refusal import Refused

PEOPLE = ("realm_login", "admin_users", "admin_group")
TRUST = ("tls", "ca_file", "ca", "fingerprints")
_WITHHELD = _("Only superusers change this: it decides who signs in, and who is staff.")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
LARGEST_CA = 256 * 1024
LIMITS = (
    *("limit_create", "limit_power", "limit_per_template", "limit_create_per_node", "limit_create_per_storage", "limit_power_per_node"),
    *("limit_booting", "stop_deadline"),
)
LIMIT_LABELS = {
    "limit_create": _("Made at once"),
    "limit_power": _("Switched at once"),
    "limit_per_template": _("Made at once of one template"),
    "limit_create_per_node": _("Made at once on one node"),
    "limit_create_per_storage": _("Made at once on one storage"),
    "limit_power_per_node": _("Switched at once on one node"),
    "limit_booting": _("Booting at once"),
    "stop_deadline": _("Time to shut down, in seconds"),
}
_NONE = _("0: no limit.")
LIMIT_HELP = {
    "limit_create": _("Machines that are made, reverted or deleted. Lowered by itself for a while when the cluster is overloaded."),
    "limit_power": _("Machines that are switched on or off. Lowered by itself for a while when the cluster is overloaded."),
    "limit_create_per_node": _NONE,
    "limit_create_per_storage": _NONE,
    "limit_power_per_node": _NONE,
    "limit_booting": _("Machines that are on and do not answer yet. 0: no limit."),
}


def _kept(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except Refused as refusal:
        raise forms.ValidationError(refusal.message) from refusal


class Lines(forms.CharField):
    """A list, one entry a line or separated by commas."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(widget=forms.Textarea(attrs={"rows": 3, "cols": 60}), **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(str(each) for each in value) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> Any:
        text = str(self.prepare_value(value) or "")
        return list(dict.fromkeys(filter(None, (entry.strip() for entry in re.split(r"[,\n]", text)))))


class ClusterForm(forms.ModelForm):
    """The secret is written here and shown nowhere."""

    new_secret = forms.CharField(
        label=_("New secret"), required=False, strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}), help_text=_("Empty: as it is.")
    )
    networks = Lines(
        label=_("Networks"),
        required=False,
        help_text=_(
            "Ranges that machines have their addresses in, such as 10.20.0.0/16, one a line. The portal connects to no other address that a guest tells."
        ),
    )

    class Meta:
        model = Cluster
        fields: tuple[str, ...] = ("name", "kind", "config", "networks", "maintenance", *LIMITS)
        labels = LIMIT_LABELS
        help_texts = LIMIT_HELP

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "kind" in self.fields:
            self.fields["kind"].choices = [choice for choice in ClusterKind.choices if choice[0] != ClusterKind.PROXMOX]  # type: ignore[attr-defined]

    def clean_config(self) -> dict[str, Any]:
        config = self.cleaned_data["config"]
        if not isinstance(config, dict):
            raise forms.ValidationError(_('Settings by name are expected, for example {"uri": "qemu:///system"}.'))
        return config

    def clean_networks(self) -> list[str]:
        return [str(_kept(addresses.network, text)) for text in self.cleaned_data["networks"]]

    def save(self, commit: bool = True) -> Any:
        if secret := self.cleaned_data.get("new_secret"):
            self.instance.secret = secret
        return super().save(commit)


class ProxmoxForm(ClusterForm):
    """`Cluster.config` of a Proxmox VE cluster, with a field for each of its settings.

    Who its people are, and which server says so while they sign in, is left to superusers: a realm makes staff, and lets
    in whoever came from it before. Other staff see it.
    """

    by_superuser = False  # whoever shows the form says so
    kind = forms.CharField(widget=forms.HiddenInput, initial=ClusterKind.PROXMOX)
    endpoints = Lines(label=_("Endpoints"), help_text=_("One a line, such as pve1.example.org:8006. The next is asked where one does not answer."))
    account = forms.CharField(
        label=_("Account"),
        help_text=_("An API token, labportal@pve!portal (recommended), or a user, labportal@pve. Its secret or password goes into “New secret”."),
    )
    new_terminal_password = forms.CharField(
        label=_("Password for text consoles"),
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text=_("Of the token's user, where text consoles take no tokens (Proxmox VE before April 2026). Empty: as it is."),
    )
    forget_terminal_password = forms.BooleanField(label=_("Forget the password for text consoles"), required=False)
    tls = forms.ChoiceField(
        label=_("Certificate"),
        choices=[
            ("system", _("Signed by an authority this computer trusts")),
            ("ca", _("Signed by the authority below")),
            ("fingerprint", _("The one with a fingerprint below")),
        ],
        initial="system",
    )
    ca_file = forms.FileField(label=_("Authority (file)"), required=False, help_text=_("/etc/pve/pve-root-ca.pem of a node. Replaces the text below."))
    ca = forms.CharField(label=_("Authority (PEM)"), required=False, widget=forms.Textarea(attrs={"rows": 4, "cols": 66}))
    fingerprints = Lines(
        label=_("Fingerprints"),
        required=False,
        help_text=_(
            "SHA-256, one a line. To see what the cluster shows, save without one and test the connection; "
            "compare it with “pvenode cert info” on each node before you enter it here."
        ),
    )
    first_vmid = forms.IntegerField(label=_("First number"), min_value=100, max_value=999_999_999, initial=VMIDS[0])
    last_vmid = forms.IntegerField(
        label=_("Last number"), min_value=100, max_value=999_999_999, initial=VMIDS[1], help_text=_("Machines get VMIDs of this range. Keep it free of others.")
    )
    pool = forms.CharField(label=_("Pool"), required=False, help_text=_("Machines are put into it; the account's rights may be limited to it."))
    bridge = forms.CharField(label=_("Bridge"), required=False, help_text=_("Empty: as the template says."))
    storages = Lines(label=_("Storages"), required=False, help_text=_("For full clones. Empty: as the template says."))
    nodes = Lines(label=_("Nodes"), required=False, help_text=_("Where machines are made. Empty: on all."))
    reserve_mib = forms.IntegerField(label=_("Memory kept free on each node, MiB"), min_value=0, initial=RESERVE_MIB)
    template_copies = Lines(
        label=_("Copies of templates"),
        required=False,
        help_text=_("Where storage is local, each node needs a copy. One template a line: its number, a colon, those of the copies: 9000: 9001 9002"),
    )
    realm_login = forms.BooleanField(label=_("People sign in with accounts of this cluster"), required=False)
    admin_users = Lines(label=_("Staff among them"), required=False, help_text=_("Accounts such as root@pam, one a line."))
    admin_group = forms.CharField(label=_("Group of staff"), required=False, help_text=_("Members of this group of the cluster are staff."))
    active_scan = forms.BooleanField(
        label=_("Search the portal's own network for addresses"), required=False, help_text=_("Sends packets to all addresses of the networks below.")
    )

    class Meta(ClusterForm.Meta):
        fields = ("name", "networks", "maintenance", *LIMITS)

    PLAIN = ("endpoints", "tls", "ca", "fingerprints", "pool", "bridge", "storages", "nodes", "reserve_mib", "realm_login", "admin_users", "admin_group")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.before = dict(self.instance.config or {}) if self.instance.pk else {}
        if not self.instance.pk:
            self.initial.update(PROXMOX_LIMITS)
        for name in (*self.PLAIN, "active_scan"):
            if name in self.before:
                self.initial[name] = self.before[name]
        if user := self.before.get("user"):
            self.initial["account"] = f"{user}!{self.before['token_name']}" if self.before.get("token_name") else user
        match self.before.get("vmids"):
            case [first, last]:
                self.initial.update(first_vmid=first, last_vmid=last)
        copies = self.before.get("template_copies") or {}
        self.initial["template_copies"] = [f"{ref}: {' '.join(str(copy) for copy in each)}" for ref, each in copies.items()]
        self.initial["kind"] = ClusterKind.PROXMOX
        self.withheld = [] if self.by_superuser else [*PEOPLE, *(("endpoints", *TRUST) if self.before.get("realm_login") else ())]
        self.overstepped = [name for name in self.withheld if self._is_changed(name)]
        for name in self.withheld:  # what is stored counts, whatever is sent
            self.fields[name].disabled = True
            self.fields[name].help_text = _WITHHELD

    def _is_changed(self, name: str) -> bool:
        """Whether something else was sent than there is. Browsers send nothing of a field that is disabled."""
        sent = self.fields[name].widget.value_from_datadict(self.data, self.files, self.add_prefix(name))
        return bool(sent) and self.fields[name].has_changed(self.get_initial_for_field(self.fields[name], name), sent)

    def clean_kind(self) -> str:
        return ClusterKind.PROXMOX

    def clean_endpoints(self) -> list[str]:
        return list(dict.fromkeys(_kept(clusters_file.endpoint, text) for text in self.cleaned_data["endpoints"]))

    def clean_account(self) -> str:
        account: str = self.cleaned_data["account"].strip()
        _kept(clusters_file.account, account)
        return account

    def clean_ca_file(self) -> Any:
        file = self.cleaned_data.get("ca_file")
        if file is None:
            return None
        if file.size > LARGEST_CA:
            raise forms.ValidationError(_("This file is too large for certificates."))
        try:
            return file.read().decode("ascii")
        except UnicodeDecodeError as error:
            raise forms.ValidationError(_("This file is not PEM: it begins with -----BEGIN CERTIFICATE-----.")) from error

    def clean_fingerprints(self) -> list[str]:
        return [_kept(clusters_file.fingerprint, text) for text in self.cleaned_data["fingerprints"]]

    def _names(self, field: str) -> list[str]:
        for name in self.cleaned_data[field]:
            if not _NAME.fullmatch(name):
                raise forms.ValidationError(_("“%(name)s” is not a name on a cluster.") % {"name": name})
        return list(self.cleaned_data[field])

    def clean_storages(self) -> list[str]:
        return self._names("storages")

    def clean_nodes(self) -> list[str]:
        return self._names("nodes")

    def clean_pool(self) -> str:
        return self._name("pool")

    def clean_bridge(self) -> str:
        return self._name("bridge")

    def clean_admin_group(self) -> str:
        return self._name("admin_group")

    def _name(self, field: str) -> str:
        name: str = self.cleaned_data[field]
        if name and not _NAME.fullmatch(name):
            raise forms.ValidationError(_("“%(name)s” is not a name on a cluster.") % {"name": name})
        return name

    def clean_admin_users(self) -> list[str]:
        for name in self.cleaned_data["admin_users"]:
            if not notation.is_person(name):
                raise forms.ValidationError(_("“%(name)s” is not an account such as root@pam.") % {"name": name})
        return list(self.cleaned_data["admin_users"])

    def clean_template_copies(self) -> dict[str, list[int]]:
        copies: dict[str, list[int]] = {}
        for text in self.cleaned_data["template_copies"]:
            ref, colon, numbers = text.partition(":")
            if not colon or not ref.strip().isdecimal() or not numbers.split() or not all(number.isdecimal() for number in numbers.split()):
                raise forms.ValidationError(_("“%(text)s”: expected is a number, a colon and the numbers of its copies.") % {"text": text})
            copies[ref.strip()] = [int(number) for number in numbers.split()]
        return copies

    def clean(self) -> dict[str, Any]:
        told: dict[str, Any] = super().clean() or self.cleaned_data
        first, last = told.get("first_vmid"), told.get("last_vmid")
        if first and last and first > last:
            self.add_error("last_vmid", _("The last number is before the first."))
        if told.get("ca_file"):
            told["ca"] = told["ca_file"]
        if told.get("tls") == "ca" and not self.errors.get("ca_file"):
            self._check_ca(told.get("ca", ""))
        self._check_secret(told)
        for name in self.overstepped:
            self.add_error(name, _WITHHELD)
        return told

    def _check_ca(self, pem: str) -> None:
        if not pem.strip():
            self.add_error("ca", _("The authority's certificate is missing."))
            return
        try:
            clusters_file.authority(pem)
        except Refused as refusal:
            self.add_error("ca", refusal.message)

    def _check_secret(self, told: dict[str, Any]) -> None:
        """What is stored belongs to an account at its places: it is sent nowhere else because somebody changed those."""
        moved = told.get("account") != self.initial.get("account") or bool(set(told.get("endpoints", [])) - set(self.before.get("endpoints", [])))
        if not told.get("new_secret") and not self.instance.secret:
            self.add_error("new_secret", _("The secret of the token, or the password, is missing."))
        elif not told.get("new_secret") and moved:
            self.add_error("new_secret", _("Enter the secret again: the account is another, or an endpoint is new."))
        if self.instance.terminal_password and moved and not told.get("new_terminal_password") and not told.get("forget_terminal_password"):
            self.add_error("new_terminal_password", _("Enter it again, or have it forgotten: the account is another, or an endpoint is new."))

    def save(self, commit: bool = True) -> Any:
        told = self.cleaned_data
        user, token_name = clusters_file.account(told["account"])
        config = {name: told[name] for name in (*self.PLAIN, "active_scan", "template_copies")}
        config |= {"user": user, "token_name": token_name, "vmids": [told["first_vmid"], told["last_vmid"]]}
        if told["forget_terminal_password"] or told["new_terminal_password"]:
            self.instance.terminal_password = told["new_terminal_password"]
        self.instance.kind = ClusterKind.PROXMOX
        self.instance.config = {**self.before, **config}
        return super().save(commit)
