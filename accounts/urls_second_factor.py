"""In front of allauth's own: the same addresses and names, other views."""

from django.conf import settings
from django.urls import path

from . import views_second_factor as views

urlpatterns = [
    path("", views.second_factors, name="mfa_index"),
    path("authenticate/", views.second_step, name="mfa_authenticate"),
    path("totp/activate/", views.set_up_app, name="mfa_activate_totp"),
]
if "webauthn" in settings.MFA_SUPPORTED_TYPES:
    urlpatterns += [
        path("webauthn/add/", views.add_key, name="mfa_add_webauthn"),
        path("webauthn/keys/<int:pk>/remove/", views.remove_key, name="mfa_remove_webauthn"),
    ]
