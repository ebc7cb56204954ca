from django.urls import path

from . import views

app_name = "console"
urlpatterns = [
    path("machines/<uuid:key>/screen/", views.screen, name="screen"),
    path("machines/<uuid:key>/terminal/", views.terminal, name="terminal"),
    path("machines/<uuid:key>/console-ticket/", views.ticket, name="ticket"),
    path("machines/<uuid:key>/console-state/", views.state, name="state"),
]
