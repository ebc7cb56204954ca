"""The admin site as a whole: signing in through the portal's own page, and what it does not offer."""

from allauth.account.decorators import secure_admin_login
from allauth.account.models import EmailAddress
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import Model
from django.utils.translation import gettext_lazy as _

from labportal import admin_people  # noqa: F401 - registers itself

admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
admin.site.site_header = admin.site.site_title = settings.PORTAL_NAME
admin.site.index_title = _("Administration")

# Rights come with the role. A password can be had by mail to any of a person's addresses: who adds one is that person, a
# superuser too, and so is who writes a second factor or reads what is kept of one. The queue's rows name any function
# there is: writing one is running it. allauth's rows of single sign-on mean nothing here, where identities say who is who
# and the settings hold what is secret.
_of_apps = (model for app in ("mfa", "usersessions", "socialaccount", "django_q") for model in apps.get_app_config(app).get_models())
_withheld: list[type[Model]] = [Group, EmailAddress, *_of_apps]
for model in _withheld:
    if admin.site.is_registered(model):
        admin.site.unregister(model)
