"""One's e-mail addresses: the page of allauth, with a button only where it does something."""

from typing import Any

from allauth.account.internal.flows.manage_email import can_delete_email, can_mark_as_primary
from allauth.account.views import EmailView


class AddressesView(EmailView):  # type: ignore[misc]  # allauth has no types
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        for address in context["emailaddresses"]:
            address.may_be_used = not address.primary and can_mark_as_primary(address)
            address.may_be_removed = can_delete_email(address)
        return context
