"""What staff enter when machines are adopted."""

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import User

LARGEST_FILE = 256 * 1024


class AdoptForm(forms.Form):
    ref = forms.CharField(max_length=100, widget=forms.HiddenInput)
    owner = forms.CharField(label=_("Owner"), max_length=150, required=False)
    name = forms.CharField(label=_("Name"), max_length=63, required=False)

    def clean_owner(self) -> User | None:
        username: str = self.cleaned_data["owner"]
        if not username:
            return None
        owner = User.objects.filter(username=username, is_active=True).first()
        if owner is None:
            raise forms.ValidationError(_("The portal knows nobody called “%(name)s”.") % {"name": username})
        return owner


class MappingForm(forms.Form):
    file = forms.FileField(label=_("File"), help_text=_('Names and numbers: {"ada@pve": [101, 102]}'))

    def clean_file(self) -> str:
        file = self.cleaned_data["file"]
        if file.size > LARGEST_FILE:
            raise forms.ValidationError(_("This file is too large."))
        try:
            text: str = file.read().decode()
        except UnicodeDecodeError as error:
            raise forms.ValidationError(_("This file is not text.")) from error
        return text


class ConfirmForm(forms.Form):
    mapping = forms.CharField(max_length=LARGEST_FILE, widget=forms.HiddenInput, strip=False)
