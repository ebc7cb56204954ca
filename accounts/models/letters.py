"""Mails that wait to be sent. Apps above have more of them."""

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


class WrittenLetter(Letter):
    """With its text, written in the language of whoever reads it."""

    to = models.EmailField()
    subject = models.CharField(max_length=200)
    body = models.TextField()

    class Meta(Letter.Meta):
        abstract = True

    def __str__(self) -> str:
        return self.subject


class Notice(WrittenLetter):
    """Of what befell an account, or to staff of what somebody wishes."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="notices")  # whom it is written to
    about = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")  # where staff read of somebody else
