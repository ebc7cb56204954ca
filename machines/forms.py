"""What people type about machines."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from machines.models import Template
from machines.services.requests import SNAPSHOT_NAME


class TemplateChoice(forms.ModelChoiceField):
    """A template with what people should know before they choose it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(label=_("Template"), queryset=Template.objects.none(), empty_label=None, **kwargs)

    def label_from_instance(self, template: Any) -> str:
        about = f" · {template.about}" if template.about else ""
        return f"{template.name} ({template.get_kind_display()}, {template.cluster}){about}"


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
