"""The forms of the second factor in the portal's words. What they ask for is allauth's."""

import json
from collections.abc import Callable
from typing import Any

from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.webauthn.forms import AddWebAuthnForm, EditWebAuthnForm
from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.utils.translation import gettext_lazy as _
from fido2.webauthn import RegistrationResponse

from .forms import plain_name
from .second_factor import use_up

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


class _KeyName(forms.Form):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["name"]
        field.label = _("Name")
        field.validators += [MaxLengthValidator(_NAME_LENGTH), plain_name]
        field.widget.attrs |= {"maxlength": _NAME_LENGTH, "autocomplete": "off"}
        field.help_text = _("To tell your keys apart: “blue key on the key ring”, “telephone”.")


class AddKeyForm(_KeyName, AddWebAuthnForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        passkey = self.fields["passwordless"]
        passkey.label = _("Make it a passkey")
        passkey.help_text = _("Then it signs you in by itself, without user name and password. It has to ask for a PIN, a fingerprint or your face.")

    def clean_credential(self) -> Any:
        """What allauth goes on with is a credential: it is kept as it is, and read at every sign-in."""
        credential = self.cleaned_data["credential"]
        try:
            made = RegistrationResponse.from_dict(credential).response.attestation_object.auth_data.credential_data
        except (TypeError, ValueError, LookupError):
            made = None
        if made is None or len(json.dumps(credential)) > LARGEST_CREDENTIAL:
            raise get_adapter().validation_error("incorrect_code")
        return credential

    def clean(self) -> dict[str, Any] | None:
        if Authenticator.objects.filter(user=self.user, type=Authenticator.Type.WEBAUTHN).count() >= MOST_KEYS:
            raise ValidationError(_("You have as many keys as you may have. Remove one first."))
        return super().clean()


class RenameKeyForm(_KeyName, EditWebAuthnForm):  # type: ignore[misc]
    pass
