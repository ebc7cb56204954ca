from django.contrib import admin
from django.urls import include, path, re_path

from labportal.api import api, docs, unknown
from labportal.health import alive, health

urlpatterns = [
    path("", include(([path("health", health, name="health"), path("health/live", alive, name="alive")], "labportal"))),
    path("accounts/", include("accounts.urls")),
    path("accounts/2fa/", include("accounts.urls_second_factor")),
    path("accounts/", include("allauth.urls")),
    path("api/v1/docs", docs, name="api_docs"),
    path("api/v1/", api.urls),
    re_path(r"^api/", unknown, name="api_unknown"),
    path("admin/", admin.site.urls),
    path("", include("console.urls")),  # before those of machines, where every other word is a verb
    path("", include("machines.urls")),
    path("", include("classes.urls")),
]
