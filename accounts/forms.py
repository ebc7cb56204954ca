"""What people may change about themselves."""

from typing import Any

from allauth.account.forms import LoginForm, SignupForm
from django import forms
from django.utils.translation import gettext_lazy as _

from .models import User

# Those the consoles can type (static/labportal/js/console/layouts.js).
KEYBOARDS = [
    ("us", _("English (US)")),
    ("gb", _("English (UK)")),
    ("be", _("Belgian")),
    ("dk", _("Danish")),
    ("fr", _("French")),
    ("de", _("German")),
    ("it", _("Italian")),
    ("no", _("Norwegian")),
    ("pl", _("Polish")),
    ("pt", _("Portuguese")),
    ("es", _("Spanish")),
    ("se", _("Swedish")),
    ("ch-fr", _("Swiss French")),
    ("ch-de", _("Swiss German")),
]


class ProfileForm(forms.ModelForm):
    keyboard = forms.ChoiceField(label=_("Keyboard layout"), choices=KEYBOARDS, help_text=_("The keys of your own keyboard. New machines and consoles use it."))

    class Meta:
        model = User
        fields = ("first_name", "last_name", "keyboard")


class SignInForm(LoginForm):  # type: ignore[misc]  # allauth has no types
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"].label = _("User name or e-mail address")
        _without_placeholders(self)


class SignUpForm(SignupForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = _("User name")
        self.fields["email"].label = _("E-mail address")
        self.fields["password1"].help_text = _("At least 10 characters, not like your name, and no common password.")
        _without_placeholders(self)


def _without_placeholders(form: forms.Form) -> None:
    """Every field has a label above it; the same words in it would only go away when they are needed."""
    for field in form.fields.values():
        field.widget.attrs.pop("placeholder", None)
