"""One's e-mail addresses: the page of allauth, with a button only where it does something."""

from typing import Any

from allauth.account.views import EmailView
from django.conf import settings

from .addresses import may_be_removed, may_be_used
from .refusals import WORDS


class AddressesView(EmailView):  # type: ignore[misc]  # allauth has no types
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        for address in context["emailaddresses"]:
            address.may_be_used = not address.primary and may_be_used(address, context["emailaddresses"])
            address.may_be_removed = may_be_removed(address, context["emailaddresses"])
        context["no_more"] = WORDS["max_email_addresses"] % settings.ACCOUNT_MAX_EMAIL_ADDRESSES
        return context
