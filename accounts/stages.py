"""What stands between a right password and the portal."""

from allauth.account.models import EmailAddress
from allauth.account.stages import EmailVerificationStage
from django.http import HttpResponse


class AddressConfirmed(EmailVerificationStage):  # type: ignore[misc]  # allauth has no types
    """Whoever gave the portal an address confirms it first. One that staff or a command wrote down with the account is none
    that its person claimed: allauth has no row of it."""

    def handle(self) -> tuple[HttpResponse | None, bool]:
        user = self.login.user
        if user is not None and not EmailAddress.objects.filter(user=user).exists():
            return None, True
        answer: tuple[HttpResponse | None, bool] = super().handle()
        return answer
