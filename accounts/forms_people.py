"""What staff enter about people."""

from typing import Any, ClassVar

from allauth.account.adapter import get_adapter
from django import forms
from django.utils.translation import gettext_lazy as _

from .forms import KEYBOARDS, address_is_reserved, plain_name
from .models import Role, RolePolicy, User
from .services import people, people_import, roles

LARGEST_FILE = 1024 * 1024


class _Named(forms.ModelForm):
    first_name = forms.CharField(label=_("First name"), max_length=150, required=False, validators=[plain_name])
    last_name = forms.CharField(label=_("Last name"), max_length=150, required=False, validators=[plain_name])
    acting_user: ClassVar[User]  # set by the admin, which makes a class of its own for each request

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"].strip().lower()
        if email and email != self.instance.email.lower() and people_import.taken_addresses([email], but=self.instance):
            raise forms.ValidationError(_("Somebody else has this address."))
        if email and email != self.instance.email.lower() and address_is_reserved(email):
            raise forms.ValidationError(_("The university directory has this address: whoever it is signs in with it."))
        return email


class NewPersonForm(_Named):
    """Somebody new. They choose their password themselves, by a mail."""

    class Meta:
        model = User
        fields = ("username", "email", "first_name", "last_name", "role")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["email"].required = True

    def clean_username(self) -> str:
        return str(get_adapter().clean_username(self.cleaned_data["username"]))


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

    def clean_role(self) -> str:
        role: str = self.cleaned_data["role"]
        if refusal := roles.refusal(self.instance, Role(role), acting_user=self.acting_user):
            raise forms.ValidationError(refusal)
        return role


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
