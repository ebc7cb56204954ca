from django.urls import path

from accounts.sso.connections import connections

from . import views, views_data, views_sessions, views_ssh_keys, views_tokens, views_viewing
from .views_addresses import AddressesView

app_name = "accounts"
urlpatterns = [
    path("profile/", views.profile, name="profile"),
    path("ssh-keys/", views_ssh_keys.keys, name="ssh_keys"),
    path("ssh-keys/<int:pk>/remove/", views_ssh_keys.remove, name="remove_ssh_key"),
    path("email/", AddressesView.as_view(), name="addresses"),  # before allauth's, of which it is the page
    path("3rdparty/", connections, name="connections"),  # before allauth's, of which it is the page
    path("sessions/", views_sessions.signed_in, name="sessions"),  # before allauth's, of which it is the page
    path("sessions/<int:pk>/end/", views_sessions.end, name="end_session"),
    path("data/", views_data.data, name="data"),
    path("data/export/", views_data.export, name="export"),
    path("data/removal/", views_data.ask_removal, name="ask_removal"),
    path("data/removal/take-back/", views_data.take_back, name="take_back_removal"),
    path("viewing/stop/", views_viewing.stop, name="stop_viewing"),
    path("tokens/", views_tokens.token_list, name="tokens"),
    path("tokens/new/", views_tokens.new, name="new_token"),
    path("tokens/revoke/", views_tokens.revoke_all, name="revoke_tokens"),
    path("tokens/<uuid:key>/revoke/", views_tokens.revoke, name="revoke_token"),
]
