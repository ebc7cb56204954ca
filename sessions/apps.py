from django.apps import AppConfig


class LabSessionsConfig(AppConfig):
    """Temporary desktops. The label differs from the folder: Django's own sessions has that one."""

    name = "sessions"
    label = "lab_sessions"
    default_auto_field = "django.db.models.BigAutoField"
