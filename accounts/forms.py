"""What people may change about themselves."""

from typing import Any, ClassVar

from allauth.account import forms as allauth_forms
from allauth.account.forms import AddEmailForm, LoginForm, ReauthenticateForm, ResetPasswordForm, ResetPasswordKeyForm, SignupForm
from django import forms
from django.conf import settings
from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _

from .models import User
from .services import preferences, ssh_keys
from .services.profiles import names_come_from

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
    """What one tells about oneself, and how the portal and machines are to be. Nothing else is taken, whatever is posted."""

    first_name = forms.CharField(label=_("First name"), max_length=150, required=False, validators=[plain_name])
    last_name = forms.CharField(label=_("Last name"), max_length=150, required=False, validators=[plain_name])
    keyboard = forms.ChoiceField(label=_("Keyboard layout"), choices=KEYBOARDS, help_text=_("The keys of your own keyboard. New machines and consoles use it."))
    mail_decisions = forms.BooleanField(label=_("About my requests: what was decided, and when the machine is ready"), required=False)
    mail_reminders = forms.BooleanField(label=_("About the last day of a machine: before it, and when it is over"), required=False)
    mail_staff = forms.BooleanField(label=_("About requests that wait for a decision"), required=False)

    class Meta:
        model = User
        fields = ("first_name", "last_name", "language", "time_zone", "keyboard", "mail_decisions", "mail_reminders", "mail_staff")

    names, mails = ("first_name", "last_name"), ("mail_decisions", "mail_reminders", "mail_staff")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        of_browser = ("", _("As my browser says"))
        self.fields["language"] = forms.ChoiceField(label=_("Language"), required=False, choices=[of_browser, *settings.LANGUAGES])
        self.fields["time_zone"] = forms.ChoiceField(
            label=_("Time zone"),
            required=False,
            choices=[of_browser, *preferences.zones_by_region()],
            help_text=_("Times are shown in it, on whatever device you are."),
        )
        if len(settings.LANGUAGES) < 2:
            del self.fields["language"]
        if not self.instance.runs_portal:
            del self.fields["mail_staff"]
        self.names_from = names_come_from(self.instance)
        for name in self.names if self.names_from else ():
            self.fields[name].disabled = True


class PastedKey(forms.Textarea):
    """What was pasted is not sent back to the page: it may have been a private key."""

    def format_value(self, value: Any) -> str:
        return ""


class SshKeyForm(forms.Form):
    """A public key, pasted or as a file. `given` is the text of either."""

    name = forms.CharField(
        label=_("Name"), max_length=60, required=False, validators=[plain_name], help_text=_("Without one, the comment of the key is taken.")
    )
    text = forms.CharField(
        label=_("Public key"),
        required=False,
        strip=False,
        widget=PastedKey(attrs={"rows": 4, "spellcheck": "false", "autocomplete": "off"}),
        help_text=_("One line, as in ~/.ssh/id_ed25519.pub. It begins with ssh-ed25519, ecdsa-sha2-…, ssh-rsa or sk-…"),
    )
    file = forms.FileField(label=_("Or its file"), required=False, allow_empty_file=True)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        text, file = data.get("text") or "", data.get("file")
        if file is not None:
            if file.size > ssh_keys.LONGEST:
                raise forms.ValidationError(_("This file is too long to hold a public key."))
            text = file.read().decode("utf-8", errors="replace")
        if not text.strip():
            raise forms.ValidationError(_("Paste a public key, or choose its file."))
        return {**data, "given": text}


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
