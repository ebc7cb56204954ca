"""What teachers and students type about classes."""

from datetime import timedelta
from typing import Any

from django import forms
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts.forms import plain_name
from accounts.models import User
from accounts.services import groups
from machines.forms import TemplateChoice
from machines.models import Template, Tier
from machines.policies import offered_templates, tiers_of

from .models import LabClass
from .services.pool import MOST_AT_ONCE

_AS_TEMPLATE, _AS_NOW = "template", "now"


class ClassForm(forms.Form):
    """Name, template and size; `values` is what the services take."""

    name = forms.CharField(label=_("Name"), max_length=100, validators=[plain_name], help_text=_("Students see it. Machines are named after it."))
    template = TemplateChoice(help_text=_("What the machines of this class are made from."))
    size = forms.ChoiceField(label=_("Size of a machine"))
    directory_group = forms.CharField(
        label=_("Group of the university"),
        max_length=500,
        required=False,
        help_text=_(
            "Everybody of this group of the university directory is in the class: those who were here before at once, others when they sign in. "
            "Its name, or the whole of it, as cn=networks,ou=groups,dc=uni. Empty: people come by an invite alone."
        ),
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, user: User, lab_class: LabClass | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lab_class = lab_class
        if not groups.offered():
            del self.fields["directory_group"]
        templates = self.fields["template"]
        assert isinstance(templates, forms.ModelChoiceField)
        offered = offered_templates(user)
        sizes = [(f"tier:{tier.pk}", f"{tier}: {_described(tier.cores, tier.memory_mib, tier.disk_gib)}") for tier in Tier.objects.all()]
        sizes.insert(0, (_AS_TEMPLATE, str(_("As the template suggests"))))
        kept = lab_class.template_id if lab_class else None
        templates.queryset = Template.objects.select_related("cluster").filter(Q(pk__in=offered) | Q(pk=kept))
        if lab_class is not None:
            now = _described(lab_class.cores, lab_class.memory_mib, lab_class.disk_gib)
            sizes.insert(0, (_AS_NOW, _("As now: %(size)s") % {"size": now}))
            self.initial = {"name": lab_class.name, "template": lab_class.template_id, "size": _AS_NOW, "directory_group": lab_class.directory_group}
        size = self.fields["size"]
        assert isinstance(size, forms.ChoiceField)
        size.choices = sizes

    def clean_directory_group(self) -> str:
        typed: str = self.cleaned_data["directory_group"]
        if self.lab_class is not None and typed == self.lab_class.directory_group:
            return typed  # also where nobody is in it any more
        try:
            return groups.resolve(typed) if typed else ""
        except groups.GroupUnclear as unclear:
            raise forms.ValidationError(unclear.message) from None

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        template, size = cleaned.get("template"), cleaned.get("size", "")
        if template is not None and size.startswith("tier:") and not tiers_of(template).filter(pk=size.removeprefix("tier:")).exists():
            names = ", ".join(str(tier) for tier in tiers_of(template))
            self.add_error("size", _("Machines of “%(template)s” come in other sizes: %(names)s.") % {"template": template, "names": names})
        return cleaned

    def values(self) -> dict[str, Any]:
        template: Template = self.cleaned_data["template"]
        mapped = {"directory_group": self.cleaned_data["directory_group"]} if "directory_group" in self.fields else {}
        return {"name": self.cleaned_data["name"], "template": template, **self._size(template), **mapped}

    def _size(self, template: Template) -> dict[str, Any]:
        chosen = self.cleaned_data["size"]
        source: Template | Tier | LabClass = template
        if chosen == _AS_NOW and self.lab_class is not None:
            source = self.lab_class
        elif chosen.startswith("tier:"):
            source = Tier.objects.get(pk=chosen.removeprefix("tier:"))
        return {"cores": source.cores, "memory_mib": source.memory_mib, "disk_gib": source.disk_gib}


class NewClassForm(ClassForm):
    machines = forms.IntegerField(
        label=_("Machines"), min_value=0, max_value=MOST_AT_ONCE, initial=0, help_text=_("Made at once, one for each student. You can add more at any time.")
    )


class AddMachinesForm(forms.Form):
    count = forms.IntegerField(label=_("How many"), min_value=1, max_value=MOST_AT_ONCE, initial=1)


class InviteForm(forms.Form):
    LASTS = {
        "hour": (_("One hour"), timedelta(hours=1)),
        "day": (_("One day"), timedelta(days=1)),
        "week": (_("One week"), timedelta(weeks=1)),
        "month": (_("30 days"), timedelta(days=30)),
        "": (_("Until you withdraw it"), None),
    }
    lasts = forms.ChoiceField(label=_("The link works for"), choices=[(key, words) for key, (words, _span) in LASTS.items()], required=False)
    max_uses = forms.IntegerField(
        label=_("At most this many people"), min_value=1, max_value=10_000, required=False, help_text=_("Empty: as many as have the link.")
    )

    def values(self) -> dict[str, Any]:
        return {"lasts": self.LASTS[self.cleaned_data["lasts"]][1], "max_uses": self.cleaned_data["max_uses"]}


class CodeForm(forms.Form):
    code = forms.CharField(
        label=_("Code"), max_length=20, widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false"})
    )


def _described(cores: int, memory_mib: int, disk_gib: int | None) -> str:
    memory = f"{memory_mib / 1024:g} GiB" if memory_mib >= 1024 else f"{memory_mib} MiB"
    disk = _("%(size)d GiB disk") % {"size": disk_gib} if disk_gib else _("disk as the template")
    return _("%(cores)d × CPU, %(memory)s memory, %(disk)s") % {"cores": cores, "memory": memory, "disk": disk}
