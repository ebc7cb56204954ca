"""What people may change about themselves."""

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
