"""What people may change about themselves."""

from typing import Any, ClassVar

from allauth.account import forms as allauth_forms
from allauth.account.forms import AddEmailForm, LoginForm, ReauthenticateForm, ResetPasswordForm, ResetPasswordKeyForm, SignupForm
from django import forms
from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _

from .models import User

_EMAIL = _("E-mail address")
_PASSWORDS = {"oldpassword": _("Password until now"), "password1": _("New password"), "password2": _("New password again")}

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


# Letters that turn the direction of others round make a name read like another one.
plain_name = RegexValidator("[\\u202a-\\u202e\\u2066-\\u2069\\x00-\\x1f\\x7f]", _("Leave out control characters."), inverse_match=True)


class ProfileForm(forms.ModelForm):
    first_name = forms.CharField(label=_("First name"), max_length=150, required=False, validators=[plain_name])
    last_name = forms.CharField(label=_("Last name"), max_length=150, required=False, validators=[plain_name])
    keyboard = forms.ChoiceField(label=_("Keyboard layout"), choices=KEYBOARDS, help_text=_("The keys of your own keyboard. New machines and consoles use it."))

    class Meta:
        model = User
        fields = ("first_name", "last_name", "keyboard")


class PlainForm(forms.Form):
    """A form of allauth in the portal's words. Every field has a label above it; the same words
    in it, as a placeholder, would only go away when they are needed."""

    labels: ClassVar[dict[str, Any]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            field.widget.attrs.pop("placeholder", None)
            field.label = self.labels.get(name, field.label)
            if name == "password1":
                field.help_text = _("At least 10 characters, not like your name, and no common password.")


class SignInForm(PlainForm, LoginForm):  # type: ignore[misc]  # allauth has no types
    labels: ClassVar = {"login": _("User name or e-mail address")}


class SignUpForm(PlainForm, SignupForm):  # type: ignore[misc]
    labels: ClassVar = {"username": _("User name"), "email": _EMAIL}


class ForgottenPasswordForm(PlainForm, ResetPasswordForm):  # type: ignore[misc]
    labels: ClassVar = {"email": _EMAIL}


class NewPasswordForm(PlainForm, ResetPasswordKeyForm):  # type: ignore[misc]
    labels: ClassVar = _PASSWORDS


class ChangePasswordForm(PlainForm, allauth_forms.ChangePasswordForm):  # type: ignore[misc]
    labels: ClassVar = _PASSWORDS


class SetPasswordForm(PlainForm, allauth_forms.SetPasswordForm):  # type: ignore[misc]
    labels: ClassVar = _PASSWORDS


class AddAddressForm(PlainForm, AddEmailForm):  # type: ignore[misc]
    labels: ClassVar = {"email": _("Another e-mail address")}


class PasswordAgainForm(PlainForm, ReauthenticateForm):  # type: ignore[misc]
    pass
