"""What stands between a right password and the portal."""

from allauth.account.models import EmailAddress
from allauth.account.stages import EmailVerificationStage
from django.http import HttpResponse


class AddressConfirmed(EmailVerificationStage):  # type: ignore[misc]  # allauth has no types
    """Whoever gave the portal an address confirms it first. Accounts without any were made by staff, a command or a
    system of the university, which know whom they gave them to; there is nothing to confirm."""

    def handle(self) -> tuple[HttpResponse | None, bool]:
        user = self.login.user
        if user is not None and not user.email and not EmailAddress.objects.filter(user=user).exists():
            return None, True
        answer: tuple[HttpResponse | None, bool] = super().handle()
        return answer
