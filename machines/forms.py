"""What people type about machines."""

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from machines.models import Machine, Template, Tier
from machines.selectors.display import memory
from machines.services.requests import SNAPSHOT_NAME


class TemplateChoice(forms.ModelChoiceField):
    """A template with what people should know before they choose it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(label=_("Template"), queryset=Template.objects.none(), empty_label=None, **kwargs)

    def label_from_instance(self, template: Any) -> str:
        about = f" · {template.about}" if template.about else ""
        return f"{template.name} ({template.get_kind_display()}, {template.cluster}){about}"


class TierChoice(forms.ModelChoiceField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(label=_("Size"), empty_label=None, **kwargs)

    def label_from_instance(self, tier: Any) -> str:
        return f"{tier}: {described(tier)}"


def described(tier: Tier) -> str:
    cores = ngettext("%(count)d core", "%(count)d cores", tier.cores) % {"count": tier.cores}
    return _("%(cores)s, %(memory)s, %(disk)d GiB disk") % {"cores": cores, "memory": memory(tier.memory_mib), "disk": tier.disk_gib}


class SnapshotForm(forms.Form):
    name = forms.RegexField(
        SNAPSHOT_NAME,
        label=_("Name"),
        max_length=40,
        help_text=_("Letters from a to z, digits and dashes, without spaces: before-update."),
        error_messages={"invalid": _("Use only letters from a to z, digits and dashes, and begin with a letter or a digit: before-update.")},
    )
    note = forms.CharField(label=_("Note"), max_length=200, required=False, help_text=_("What is special about this state. You may leave it empty."))


class ResizeForm(forms.Form):
    cores = forms.IntegerField(label=_("Cores"), min_value=1, max_value=128)
    memory_mib = forms.IntegerField(label=_("Memory in MiB"), min_value=128, max_value=4 * 1024 * 1024)
    disk_gib = forms.IntegerField(label=_("Disk in GiB"), min_value=1, max_value=64 * 1024, required=False, help_text=_("Empty: as it is. It can only grow."))


class TierForm(forms.Form):
    """For who may not enter sizes. Its `cleaned_data` is what `ResizeForm` has."""

    tier = TierChoice(queryset=Tier.objects.none(), help_text=_("The disk can only grow: it stays as it is where it is larger already."))

    def __init__(self, *args: Any, machine: Machine, tiers: QuerySet[Tier], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.machine = machine
        field = self.fields["tier"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = tiers
        self.initial["tier"] = tiers.filter(cores=machine.cores, memory_mib=machine.memory_mib).first()

    def clean(self) -> dict[str, Any]:
        tier: Tier | None = (super().clean() or {}).get("tier")
        if tier is None:
            return {}
        grows = self.machine.disk_gib is not None and tier.disk_gib > self.machine.disk_gib
        return {"cores": tier.cores, "memory_mib": tier.memory_mib, "disk_gib": tier.disk_gib if grows else None}
