from django.apps import AppConfig


class LabportalConfig(AppConfig):
    """Settings, URLs, the processes, and what belongs to no single app."""

    name = "labportal"
