from django.urls import path, register_converter
from django.urls.converters import StringConverter

from . import views, views_power


class VerbConverter(StringConverter):
    """What can be done to a machine; other words in its place belong to other views."""

    regex = "|".join(views_power.VERBS)


register_converter(VerbConverter, "verb")

app_name = "machines"
urlpatterns = [
    path("", views.mine, name="mine"),
    path("machines/", views.machines, name="machines"),
    path("machines/<uuid:key>/", views.machine, name="machine"),
    path("machines/<uuid:key>/history/", views.history, name="history"),
    path("machines/<uuid:key>/credentials/", views_power.credentials, name="credentials"),
    path("machines/<uuid:key>/snapshot/", views_power.snapshot, name="snapshot"),
    path("machines/<uuid:key>/resize/", views_power.resize, name="resize"),
    path("operations/", views.operations, name="operations"),
    path("operations/<uuid:key>/", views.operation, name="operation"),
    path("machines/<uuid:key>/<verb:verb>/", views_power.power, name="power"),
]
