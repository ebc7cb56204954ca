"""E-mail addresses of people: which of them stays, and where the mail that confirms one leads."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from allauth.account.models import EmailAddress
from allauth.account.utils import get_next_redirect_url
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .http import page_clicked_before

_LONGEST = 254  # characters, as RFC 5321 has it; the table holds no more


def may_be_used(address: EmailAddress, addresses: Iterable[EmailAddress]) -> bool:
    """Whether mail may go to it. `addresses`: all that its person has. As long as none is confirmed, any may."""
    return address.verified or not any(one.verified for one in addresses)


def may_be_removed(address: EmailAddress, addresses: Iterable[EmailAddress]) -> bool:
    """`addresses`: all that its person has. The one that mail goes to stays while there are others to choose, and the
    only confirmed one: without it nobody gets a new password, and who must have one gets in no more."""
    others = [one for one in addresses if one.pk != address.pk]
    if address.verified and not any(one.verified for one in others):
        return False
    return not (address.primary and others)


class KeepsAnAddress:
    """Part of the account adapter."""

    def clean_email(self, email: str) -> str:
        if len(email) > _LONGEST:
            raise ValidationError(_("An address has at most 254 characters."))
        return str(super().clean_email(email))  # type: ignore[misc]  # of allauth's adapter

    def can_delete_email(self, email_address: EmailAddress) -> bool:
        return may_be_removed(email_address, EmailAddress.objects.filter(user=email_address.user_id))

    def get_email_confirmation_url(self, request: HttpRequest, emailconfirmation: Any) -> str:
        """With the page they were on their way to, which the browser that opens the mail may know nothing of. It gets them
        there and no further: what they clicked is remembered by the browser they clicked in."""
        url: str = super().get_email_confirmation_url(request, emailconfirmation)  # type: ignore[misc]
        page = get_next_redirect_url(request) or page_clicked_before(request)
        return f"{url}?{urlencode({'next': page})}" if page else url
