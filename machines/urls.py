from django.urls import path, register_converter
from django.urls.converters import StringConverter

from . import views, views_connect, views_power, views_requests


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
    path("machines/<uuid:key>/rdp/", views_connect.rdp, name="rdp"),
    path("machines/<uuid:key>/look-again/", views_connect.look_again, name="look_again"),
    path("machines/<uuid:key>/snapshot/", views_power.snapshot, name="snapshot"),
    path("machines/<uuid:key>/resize/", views_power.resize, name="resize"),
    path("requests/", views_requests.requests, name="requests"),
    path("requests/new/", views_requests.ask, name="ask"),
    path("requests/<uuid:key>/", views_requests.one_request, name="request"),
    path("requests/<uuid:key>/withdraw/", views_requests.withdraw, name="withdraw"),
    path("operations/", views.operations, name="operations"),
    path("operations/<uuid:key>/", views.operation, name="operation"),
    path("machines/<uuid:key>/<verb:verb>/", views_power.power, name="power"),
]
