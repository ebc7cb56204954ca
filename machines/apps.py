from django.apps import AppConfig


class MachinesConfig(AppConfig):
    name = "machines"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts.services import export, removal

        from . import checks  # noqa: F401 - registers itself
        from .selectors import personal
        from .services import approvals, sweep, terms, transitions

        export.SECTIONS += [
            export.Section("machines", personal.machines),
            export.Section("requests", personal.requests),
            export.Section("operations", personal.operations),
        ]
        removal.HOLDINGS.append(personal.holdings)
        transitions.LISTENERS.append(approvals.heard)
        sweep.SWEEPS += [approvals.mend, terms.remind, terms.shut_down_over]
