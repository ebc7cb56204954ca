"""The forms of the second factor in the portal's words. What they ask for is allauth's."""

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.webauthn.forms import AddWebAuthnForm, AuthenticateWebAuthnForm, EditWebAuthnForm, LoginWebAuthnForm, ReauthenticateWebAuthnForm
from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.utils.translation import gettext_lazy as _
from fido2.webauthn import RegistrationResponse

from .forms import plain_name
from .second_factor import use_up
from .services.second_factors import passkey_refusal

MOST_KEYS = 20  # of one person
LARGEST_CREDENTIAL = 32_768  # characters; without an attestation, which is not asked for, it has one or two thousand
_NAME_LENGTH = 60


class _Code(forms.Form):
    """The field of a code: a telephone shows its keys for numbers and offers the code of a message or an app."""

    label: Any = _("Code")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["code"]
        field.label = self.label
        field.widget = forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "autofocus": True, "maxlength": 20})

    def clean_code(self) -> str:
        try:
            code: str = super().clean_code()  # type: ignore[misc]  # that of allauth's form
        except ValidationError as error:
            if error.code in ("too_many_login_attempts", "rate_limited"):
                raise ValidationError(_("Too many wrong codes for this account. Wait five minutes, then try again."), code=error.code) from None
            raise
        return code


class _CodeOnce(_Code):
    authenticator: Authenticator  # allauth's form sets it
    _emit_authentication_failed: Callable[[Authenticator], None]

    def clean_code(self) -> str:
        code = super().clean_code()
        if self.authenticator.type == Authenticator.Type.TOTP and not use_up(self.authenticator, code):
            self._emit_authentication_failed(self.authenticator)
            raise get_adapter().validation_error("incorrect_code")
        return code


class CodeForm(_CodeOnce, AuthenticateForm):  # type: ignore[misc]  # allauth has no types
    pass


class CodeAgainForm(_CodeOnce, ReauthenticateForm):  # type: ignore[misc]
    pass


class FirstCodeForm(_Code, ActivateTOTPForm):  # type: ignore[misc]
    label = _("The code your app shows now")


@contextmanager
def _wrong_where_unreadable() -> Iterator[None]:
    """What is no credential is taken apart by fido2 until something breaks, whatever that is: a wrong answer of a key."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error):
        raise get_adapter().validation_error("incorrect_code") from None


class CredentialField(forms.JSONField):
    """What a key answered, as the browser's script wrote it down."""

    widget = forms.HiddenInput

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and len(value) > LARGEST_CREDENTIAL:
            raise get_adapter().validation_error("incorrect_code")
        with _wrong_where_unreadable():
            return super().to_python(value)

    def bound_data(self, data: Any, initial: Any) -> Any:
        """No answer is asked for again, so none is written into the page again."""
        return initial


class _Credential(forms.Form):
    credential = CredentialField()


class _KeyAnswer(_Credential):
    def clean_credential(self) -> Authenticator:
        with _wrong_where_unreadable():
            key: Authenticator = super().clean_credential()  # type: ignore[misc]  # that of allauth's form
        return key


class KeySignInForm(_KeyAnswer, LoginWebAuthnForm):  # type: ignore[misc]
    def clean_credential(self) -> Authenticator:
        """Browsers make a passkey also where a second factor is asked for, and people had a password here before."""
        key = super().clean_credential()
        if why := passkey_refusal(key.user):
            raise ValidationError(why)
        return key


class KeyForm(_KeyAnswer, AuthenticateWebAuthnForm):  # type: ignore[misc]
    pass


class KeyAgainForm(_KeyAnswer, ReauthenticateWebAuthnForm):  # type: ignore[misc]
    pass


class _KeyName(forms.Form):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["name"]
        field.label = _("Name")
        field.validators += [MaxLengthValidator(_NAME_LENGTH), plain_name]
        field.widget.attrs |= {"maxlength": _NAME_LENGTH, "autocomplete": "off"}
        field.help_text = _("To tell your keys apart: “blue key on the key ring”, “telephone”.")


class AddKeyForm(_KeyName, _Credential, AddWebAuthnForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if passkey_refusal(self.user):
            del self.fields["passwordless"]
            return
        passkey = self.fields["passwordless"]
        passkey.label = _("Make it a passkey")
        passkey.help_text = _("Then it signs you in by itself, without user name and password. It has to ask for a PIN, a fingerprint or your face.")

    def clean_credential(self) -> Any:
        """What allauth goes on with is a credential: it is kept as it is, and read at every sign-in."""
        credential = self.cleaned_data["credential"]
        with _wrong_where_unreadable():
            made = RegistrationResponse.from_dict(credential).response.attestation_object.auth_data.credential_data
        if made is None or len(json.dumps(credential)) > LARGEST_CREDENTIAL:  # escapes make it longer than it came
            raise get_adapter().validation_error("incorrect_code")
        return credential

    def clean(self) -> dict[str, Any] | None:
        if Authenticator.objects.filter(user=self.user, type=Authenticator.Type.WEBAUTHN).count() >= MOST_KEYS:
            raise ValidationError(_("You have as many keys as you may have. Remove one first."))
        with _wrong_where_unreadable():
            cleaned: dict[str, Any] | None = super().clean()
        return cleaned


class RenameKeyForm(_KeyName, EditWebAuthnForm):  # type: ignore[misc]
    pass
