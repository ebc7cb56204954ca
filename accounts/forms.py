"""What people may change about themselves."""

from typing import Any, ClassVar

from allauth.account import forms as allauth_forms
from allauth.account.adapter import get_adapter
from allauth.account.forms import AddEmailForm, LoginForm, ReauthenticateForm, ResetPasswordForm, ResetPasswordKeyForm, SignupForm
from django import forms
from django.conf import settings
from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _

from .models import User
from .selectors import account_here
from .services import directory, preferences, ssh_keys
from .services.identities import password_is_elsewhere
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


# What people may call themselves. Letters of other scripts look like these, and a dash in front like an option of a command.
# Those whom staff or another system named may have other names. To one with an @ the adapter has a sentence of its own.
chosen_name = RegexValidator(
    r"\A[A-Za-z0-9][A-Za-z0-9._@-]*\Z", _("A user name has letters from a to z, digits and . _ - and begins with a letter or a digit.")
)


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

    names = ("first_name", "last_name")

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


def address_is_reserved(email: str, *, of: User | None = None) -> bool:
    """Whether the directory has it, for somebody else than `of`. Raises ValidationError where that cannot be found out."""
    try:
        return directory.holds_address(email, of=of)
    except directory.AddressUnclear:
        raise forms.ValidationError(_("Addresses of the university cannot be checked at the moment. Try again in a few minutes.")) from None


class SignInForm(PlainForm, LoginForm):  # type: ignore[misc]  # allauth has no types
    """Nobody needs to know which kind of account they have. Where both one of the portal and one of the directory have
    this name and this password, they are asked which they mean; nobody else sees the question."""

    labels: ClassVar = {"login": _("User name or e-mail address")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if settings.DIRECTORY is not None and self.data.get("account") in ("directory", "local"):
            self._offer_accounts()

    def _offer_accounts(self) -> None:
        kinds = [("directory", _("My account of the university")), ("local", _("My account of this portal, with a password chosen here"))]
        self.fields["account"] = forms.ChoiceField(label=_("Which account"), choices=kinds, widget=forms.RadioSelect({"class": "form-check-input"}))

    def user_credentials(self) -> dict[str, Any]:
        credentials: dict[str, Any] = super().user_credentials()
        return credentials | ({"account": account} if (account := self.cleaned_data.get("account")) else {})

    def clean(self) -> dict[str, Any]:
        try:
            data: dict[str, Any] = super().clean() or {}
        except forms.ValidationError as error:
            if getattr(self.request, "directory_is_silent", False) and str(error.code).endswith("password_mismatch"):
                silent = _("Accounts of the university cannot sign in at the moment: its directory does not answer.")
                here = _("For an account of this portal, the name or the password is not correct.")
                raise forms.ValidationError([forms.ValidationError(silent, code="directory_silent"), here]) from None
            raise
        if self.user is None or settings.DIRECTORY is None or data.get("account") == "local":
            return data
        if getattr(self.user, "backend", "") == directory.BACKEND:
            if "account" not in data and self._is_local_too():
                self._offer_accounts()
                raise forms.ValidationError(_("There are two accounts of this name with this password. Choose one, and type the password again."))
        elif data.get("account") == "directory":
            raise forms.ValidationError(_("Accounts of the university cannot sign in at the moment."), code="directory_silent")
        return data

    def _is_local_too(self) -> bool:
        other = account_here(self.cleaned_data["login"])
        return bool(other and other != self.user and other.is_active and other.check_password(self.cleaned_data["password"]))


class SignUpForm(PlainForm, SignupForm):  # type: ignore[misc]
    """Whose name or address the directory has gets the answer of one that is taken here."""

    labels: ClassVar = {"username": _("User name"), "email": _EMAIL}
    account_already_exists: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].validators.append(chosen_name)
        self.fields["username"].help_text = _("Letters without accents, digits and . _ - Begin with a letter or a digit.")

    def validate_unique_email(self, value: str) -> str:
        email: str = super().validate_unique_email(value)
        if not self.account_already_exists and address_is_reserved(email):
            if settings.ACCOUNT_EMAIL_VERIFICATION != "mandatory":
                raise get_adapter().validation_error("email_taken")
            self.account_already_exists = True  # as allauth says it: whoever has the address gets a mail, and nobody is told
        return email


class ForgottenPasswordForm(PlainForm, ResetPasswordForm):  # type: ignore[misc]
    labels: ClassVar = {"email": _EMAIL}


class NewPasswordForm(PlainForm, ResetPasswordKeyForm):  # type: ignore[misc]
    labels: ClassVar = _PASSWORDS


class ChangePasswordForm(PlainForm, allauth_forms.ChangePasswordForm):  # type: ignore[misc]
    labels: ClassVar = _PASSWORDS


class SetPasswordForm(PlainForm, allauth_forms.SetPasswordForm):  # type: ignore[misc]
    labels: ClassVar = _PASSWORDS

    @property
    def is_elsewhere(self) -> bool:
        """Whether there is no password to be set here: the page says so, and the adapter refuses one."""
        return password_is_elsewhere(self.user)


class AddAddressForm(PlainForm, AddEmailForm):  # type: ignore[misc]
    labels: ClassVar = {"email": _("Another e-mail address")}

    def clean_email(self) -> str:
        email: str = super().clean_email()
        if address_is_reserved(email, of=self.user):
            raise get_adapter().validation_error("email_taken")
        return email


class PasswordAgainForm(PlainForm, ReauthenticateForm):  # type: ignore[misc]
    pass
