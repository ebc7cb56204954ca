"""What people type when they ask for a machine, and staff when they decide."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User

from .forms import TemplateChoice, TierChoice
from .models import MachineRequest, Tier
from .policies import offered_templates, tiers_of
from .services.approvals import DEFAULT_DAYS, LONGEST_ANSWER, LONGEST_DAYS, LONGEST_REASON


class AskForm(forms.Form):
    """`values` is what the service takes."""

    template = TemplateChoice(help_text=_("What the machine is made from, and whether it is a container."))
    tier = TierChoice(queryset=Tier.objects.none())
    reason = forms.CharField(
        label=_("What is it for?"),
        max_length=LONGEST_REASON,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=_("Staff decide by what you write here: the project or course, and what you run on it."),
    )
    until = forms.DateField(
        label=_("Until"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        help_text=_("The last day you need it. The machine is shut down afterwards, not deleted."),
    )
    token = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        today = timezone.localdate()
        self.initial = {"token": uuid4(), "until": today + timedelta(days=DEFAULT_DAYS)}
        self.fields["until"].widget.attrs |= {"min": today.isoformat(), "max": (today + timedelta(days=LONGEST_DAYS)).isoformat()}
        template, tier = self.fields["template"], self.fields["tier"]
        assert isinstance(template, forms.ModelChoiceField) and isinstance(tier, forms.ModelChoiceField)
        template.queryset = offered_templates(user)
        tier.queryset = Tier.objects.all()

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        template, tier, until = values.get("template"), values.get("tier"), values.get("until")
        if template and tier and not (tiers := tiers_of(template)).filter(pk=tier.pk).exists():
            offered = ", ".join(str(one) for one in tiers) or "–"
            self.add_error("tier", _("%(template)s comes in these sizes: %(sizes)s.") % {"template": template, "sizes": offered})
        today = timezone.localdate()
        if until and not today <= until <= today + timedelta(days=LONGEST_DAYS):
            self.add_error("until", _("Choose a day from today on, at most %(days)d days from now.") % {"days": LONGEST_DAYS})
        return values

    def values(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in ("template", "tier", "reason", "until", "token")}


class AnswerForm(forms.Form):
    """What staff tell the person with a decision."""

    answer = forms.CharField(label=_("Answer"), max_length=LONGEST_ANSWER, required=False, widget=forms.Textarea(attrs={"rows": 3}))

    def __init__(self, *args: Any, needed: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["answer"].required = needed
        self.fields["answer"].help_text = _("The person reads it.")
        if needed:
            self.fields["answer"].label = _("Reason")


class DecisionForm(forms.ModelForm):
    """A request on its page in the admin: the last day may be changed, and the decision pressed."""

    answer = forms.CharField(
        label=_("Answer"),
        max_length=LONGEST_ANSWER,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("The person reads it. To reject, give the reason here."),
    )

    class Meta:
        model = MachineRequest
        fields = ("until",)

    def clean_answer(self) -> str:
        answer: str = self.cleaned_data["answer"]
        if "_reject" in self.data and not answer:
            raise forms.ValidationError(_("Give a reason. The person who asked reads it."))
        return answer
