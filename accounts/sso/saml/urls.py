"""The names and arguments are allauth's, which builds the addresses in the portal's metadata of them."""

from django.urls import path

from . import views

_of = "saml/<slug:organization_slug>"
urlpatterns = [
    path(f"{_of}/login/", views.login, name="saml_login"),
    path(f"{_of}/acs/", views.answered, name="saml_acs"),
    path(f"{_of}/acs/finish/", views.finish, name="saml_finish_acs"),
    path(f"{_of}/metadata/", views.metadata, name="saml_metadata"),
    path(f"{_of}/sls/", views.sign_out, name="saml_sls"),
]
