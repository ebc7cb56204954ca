from django.urls import path, register_converter
from django.urls.converters import StringConverter

from . import views, views_invites, views_pool


class BulkVerbConverter(StringConverter):
    """What can be done to many machines of a class."""

    regex = "|".join(views_pool.VERBS)


register_converter(BulkVerbConverter, "bulk_verb")

app_name = "classes"
urlpatterns = [
    path("classes/", views.class_list, name="list"),
    path("classes/new/", views.new, name="new"),
    path("classes/<uuid:key>/", views.lab_class, name="lab_class"),
    path("classes/<uuid:key>/edit/", views.edit, name="edit"),
    path("classes/<uuid:key>/archive/", views.archive, name="archive"),
    path("classes/<uuid:key>/restore/", views.restore, name="restore"),
    path("classes/<uuid:key>/leave/", views_invites.leave, name="leave"),
    path("classes/<uuid:key>/machines/add/", views_pool.add_machines, name="add_machines"),
    path("classes/<uuid:key>/machines/<uuid:machine>/retry/", views_pool.retry, name="retry"),
    path("classes/<uuid:key>/machines/<bulk_verb:verb>/", views_pool.act, name="act"),
    path("classes/<uuid:key>/students/remove/", views_pool.remove_students, name="remove_students"),
    path("classes/<uuid:key>/invites/new/", views_invites.new_invite, name="new_invite"),
    path("classes/<uuid:key>/invites/<int:number>/", views_invites.project, name="project"),
    path("classes/<uuid:key>/invites/<int:number>/revoke/", views_invites.revoke, name="revoke"),
    path("batches/<uuid:key>/", views.batch, name="batch"),
    path("join/", views_invites.code, name="code"),
    path("join/<str:token>/", views_invites.join, name="join"),
]
