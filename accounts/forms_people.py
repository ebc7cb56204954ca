"""What staff enter about people."""

from collections.abc import Mapping
from typing import Any, ClassVar

from allauth.account.adapter import get_adapter
from django import forms
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from .forms import KEYBOARDS, address_is_reserved, plain_name
from .models import Role, RolePolicy, User
from .selectors import taken_addresses
from .services import directory, people, roles

LARGEST_FILE = 1024 * 1024


def ask_directory(typed: QueryDict, *, about: User | None) -> dict[str, Any]:
    """What the university directory has against a name or an address that was typed, by field; `about` None: for somebody
    new. Not from a form of the admin, which is judged inside a transaction: the directory may take its time."""
    says: dict[str, Any] = {}
    username, email = User.normalize_username(typed.get("username", "")).strip(), typed.get("email", "").strip().lower()
    if about is None and username and directory.holds_name(username):
        says["username"] = get_adapter().validation_error("username_taken")
    if email and (about is None or email != about.email.lower()):
        try:
            if address_is_reserved(email):
                says["email"] = _("The university directory has this address: whoever it is signs in with it.")
        except forms.ValidationError as unclear:
            says["email"] = unclear
    return says


class _Named(forms.ModelForm):
    first_name = forms.CharField(label=_("First name"), max_length=150, required=False, validators=[plain_name])
    last_name = forms.CharField(label=_("Last name"), max_length=150, required=False, validators=[plain_name])
    # Set by the admin, which makes a class of its own for each request: who asks, and what `ask_directory` found.
    acting_user: ClassVar[User]
    directory_says: ClassVar[Mapping[str, Any]]

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"].strip().lower()
        if email and email != self.instance.email.lower() and taken_addresses([email], but=self.instance):
            raise forms.ValidationError(_("Somebody else has this address."))
        if why := self.directory_says.get("email"):
            raise forms.ValidationError(why)
        return email

    def clean_role(self) -> str:
        role: str = self.cleaned_data["role"]
        if refusal := roles.refusal(self.instance, Role(role), acting_user=self.acting_user):
            raise forms.ValidationError(refusal)
        return role


class NewPersonForm(_Named):
    """Somebody new. They choose their password themselves, by a mail."""

    class Meta:
        model = User
        fields = ("username", "email", "first_name", "last_name", "role")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].required = True

    def clean_username(self) -> str:
        username = str(get_adapter().clean_username(self.cleaned_data["username"], shallow=True))
        if User.objects.filter(username__iexact=username).exists():
            raise get_adapter().validation_error("username_taken")
        if why := self.directory_says.get("username"):
            raise forms.ValidationError(why)
        return username


class PersonForm(_Named):
    keyboard = forms.ChoiceField(label=_("Keyboard layout"), choices=KEYBOARDS)

    class Meta:
        model = User
        fields = ("first_name", "last_name", "email", "keyboard", "role", "is_superuser", *people.LIMITS)

    def clean_email(self) -> str:
        email = super().clean_email()
        if email != self.instance.email.lower() and (refusal := people.address_refusal(self.instance, acting_user=self.acting_user)):
            raise forms.ValidationError(refusal)
        return email


class RolePolicyForm(forms.ModelForm):
    class Meta:
        model = RolePolicy
        fields = ("role", "second_factor", *people.LIMITS)
        help_texts: ClassVar = {"second_factor": _("Whoever of this role has none is led to set one up with their next click, you too.")}


class RoleChoice(forms.Form):
    role = forms.ChoiceField(label=_("Role"), choices=Role.choices)


class PeopleFile(forms.Form):
    """A list of people to import, as text."""

    file = forms.FileField(label=_("CSV file"), widget=forms.ClearableFileInput(attrs={"accept": ".csv,text/csv"}))

    def clean_file(self) -> str:
        file = self.cleaned_data["file"]
        if file.size > LARGEST_FILE:
            raise forms.ValidationError(_("This file is too large: a list has at most 1 MB."))
        try:
            text: str = file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise forms.ValidationError(_("This file is not UTF-8 text. Save it as “CSV UTF-8”.")) from error
        return text


class PeopleConfirmed(forms.Form):
    """The list that was looked at."""

    people = forms.CharField(max_length=LARGEST_FILE, widget=forms.HiddenInput, strip=False)
