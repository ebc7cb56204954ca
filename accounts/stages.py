"""What stands between a right password and the portal."""

from allauth.account.models import EmailAddress
from allauth.account.stages import EmailVerificationStage
from django.http import HttpResponse


class AddressConfirmed(EmailVerificationStage):  # type: ignore[misc]  # allauth has no types
    """Whoever gave the portal an address confirms it first. One that staff or a command wrote down with the account is none
    that its person claimed: allauth has no row of it. Nor is one that was merely typed to sign in with, as the directory
    knows more names with an @ than the portal keeps: allauth would write it down and wait until it is confirmed."""

    def handle(self) -> tuple[HttpResponse | None, bool]:
        user = self.login.user
        if user is not None:
            claimed = EmailAddress.objects.filter(user=user)
            if not claimed.exists():
                return None, True
            if self.login.email and not claimed.filter(email__iexact=self.login.email).exists():
                self.login.email = None
        answer: tuple[HttpResponse | None, bool] = super().handle()
        return answer
