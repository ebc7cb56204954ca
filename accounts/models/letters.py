"""Mails to people about their account, which wait to be sent."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from .person import User


class Letter(models.Model):
    """A mail to be sent. Written by `accounts.services.letters`."""

    created_at = models.DateTimeField(_("asked"), auto_now_add=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField(db_index=True)
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    problem = models.CharField(_("problem"), max_length=300, blank=True, default="")  # why the last attempt failed

    class Meta:
        abstract = True
        ordering = ["-id"]


class PasswordLetter(Letter):
    """With a link by which its person chooses a password. The link is made when it is sent and written down nowhere."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="password_letters")
    welcome = models.BooleanField(default=False)  # to somebody new, who does not know of the portal yet

    class Meta(Letter.Meta):
        constraints = [models.UniqueConstraint(fields=["user"], condition=models.Q(sent_at=None), name="one_password_letter_waits")]

    def __str__(self) -> str:
        return f"{self.user}"


class AddressLetter(Letter):
    """To the address somebody had, which staff replaced."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="address_letters")
    to = models.EmailField()

    def __str__(self) -> str:
        return self.to
