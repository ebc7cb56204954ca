from django.apps import AppConfig


class MachinesConfig(AppConfig):
    name = "machines"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401 - registers itself
        from .services import approvals, sweep, terms, transitions

        transitions.LISTENERS.append(approvals.heard)
        sweep.SWEEPS += [approvals.mend, terms.remind, terms.shut_down_over]
