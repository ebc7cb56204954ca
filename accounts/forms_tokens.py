"""What people type when they make an API token."""

from datetime import timedelta
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from .forms import plain_name
from .models import Scope, User
from .services import tokens

_USUAL_DAYS = 90


class TokenForm(forms.Form):
    """`values` is what the service takes. Reading is in every token, so it is not asked for."""

    name = forms.CharField(
        label=_("Name"), max_length=tokens.LONGEST_NAME, validators=[plain_name], help_text=_("What it is for or where it is kept, so that you know it again.")
    )
    scopes = forms.MultipleChoiceField(
        label=_("Besides reading, it may"), required=False, widget=forms.CheckboxSelectMultiple, help_text=_("Choose as little as it needs.")
    )
    days = forms.ChoiceField(label=_("Expires"))

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        scopes, days = self.fields["scopes"], self.fields["days"]
        assert isinstance(scopes, forms.ChoiceField) and isinstance(days, forms.ChoiceField)
        scopes.choices = [(scope.value, scope.label) for scope in tokens.offered_scopes(user) if scope != Scope.READ]
        lifetimes = tokens.lifetimes()
        days.choices = [(str(count or ""), _lifetime(count)) for count in lifetimes]
        days.required = None not in lifetimes
        self.initial = {"days": str(_USUAL_DAYS if _USUAL_DAYS in lifetimes else lifetimes[0] or "")}

    def values(self) -> dict[str, Any]:
        days = self.cleaned_data["days"]
        expires_at = timezone.now() + timedelta(days=int(days)) if days else None
        return {"name": self.cleaned_data["name"], "scopes": self.cleaned_data["scopes"], "expires_at": expires_at}


def _lifetime(days: int | None) -> str:
    if days is None:
        return str(_("Never"))
    return str(_("In a year")) if days == 365 else ngettext("In %(count)d day", "In %(count)d days", days) % {"count": days}
