"""How a person gets in, as staff see it: never a secret, only that there is one."""

from collections.abc import Sequence
from dataclasses import dataclass

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator

from .models import ApiToken, Identity, PasswordLetter, User
from .services import sessions, tokens


@dataclass(frozen=True, slots=True)
class WaysIn:
    addresses: Sequence[EmailAddress]
    identities: Sequence[Identity]
    factors: Sequence[Authenticator]  # recovery codes among them
    sessions: Sequence[sessions.SignedIn]
    tokens: Sequence[ApiToken]
    letter: PasswordLetter | None  # the last mail to choose a password by

    def is_confirmed(self, email: str) -> bool:
        return any(address.verified and address.email.lower() == email.lower() for address in self.addresses)


def of_person(user: User) -> WaysIn:
    return WaysIn(
        addresses=list(EmailAddress.objects.filter(user=user).order_by("-primary", "email")),
        identities=list(user.identities.all()),
        factors=list(Authenticator.objects.filter(user=user).order_by("created_at")),
        sessions=sessions.of_person(user),
        tokens=list(tokens.living(user)),
        letter=user.password_letters.first(),
    )
