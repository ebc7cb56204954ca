"""E-mail addresses of people: which of them stays, and where the mail that confirms one leads."""

from typing import Any
from urllib.parse import urlencode

from allauth.account.models import EmailAddress
from allauth.account.utils import get_next_redirect_url
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .http import page_clicked_before

_LONGEST = 254  # characters, as RFC 5321 has it; the table holds no more


class KeepsAnAddress:
    """Part of the account adapter."""

    def clean_email(self, email: str) -> str:
        if len(email) > _LONGEST:
            raise ValidationError(_("An address has at most 254 characters."))
        return str(super().clean_email(email))  # type: ignore[misc]  # of allauth's adapter

    def can_delete_email(self, email_address: EmailAddress) -> bool:
        """The only confirmed one stays: without it nobody gets a new password, and who must have one gets in no more."""
        if email_address.verified and not EmailAddress.objects.filter(user=email_address.user_id, verified=True).exclude(pk=email_address.pk).exists():
            return False
        return bool(super().can_delete_email(email_address))  # type: ignore[misc]  # of allauth's adapter

    def get_email_confirmation_url(self, request: HttpRequest, emailconfirmation: Any) -> str:
        """With the page they were on their way to, which the browser that opens the mail may know nothing of. It gets them
        there and no further: what they clicked is remembered by the browser they clicked in."""
        url: str = super().get_email_confirmation_url(request, emailconfirmation)  # type: ignore[misc]
        page = get_next_redirect_url(request) or page_clicked_before(request)
        return f"{url}?{urlencode({'next': page})}" if page else url
