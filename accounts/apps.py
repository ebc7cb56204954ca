from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = _("People")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from allauth.account import signals as account
        from allauth.mfa import signals as mfa
        from allauth.usersessions import signals as usersessions
        from django.contrib.auth.signals import user_logged_out, user_login_failed

        from . import checks  # noqa: F401 - registers itself
        from .services import coming_and_going, letters, second_factors, signing_in

        user_logged_out.connect(coming_and_going.on_signed_out)
        user_login_failed.connect(coming_and_going.on_sign_in_failed)
        account.user_logged_in.disconnect(usersessions.on_user_logged_in)
        account.user_logged_in.connect(signing_in.on_signed_in)
        account.password_changed.connect(coming_and_going.on_password_changed)
        account.password_set.connect(coming_and_going.on_password_set)
        account.password_reset.connect(coming_and_going.on_password_reset)
        account.password_reset.connect(letters.on_password_reset)
        account.email_added.connect(coming_and_going.on_address_added)
        account.email_removed.connect(coming_and_going.on_address_removed)
        account.email_confirmed.connect(coming_and_going.on_address_confirmed)
        account.email_changed.connect(coming_and_going.on_address_changed)
        mfa.authenticator_added.connect(second_factors.on_added)
        mfa.authenticator_removed.connect(second_factors.on_removed)
        mfa.authenticator_reset.connect(second_factors.on_new_codes)
        mfa.authenticator_used.connect(second_factors.on_used)
        mfa.authentication_failed.connect(second_factors.on_failed)
