from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MachinesConfig(AppConfig):
    name = "machines"
    verbose_name = _("Machines")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import policies
        from accounts.services import export, removal

        from . import checks  # noqa: F401 - registers itself
        from .selectors import personal
        from .services import approvals, realms, sweep, terms, transitions

        export.SECTIONS += [
            export.Section("realm_accounts", personal.realm_accounts),
            export.Section("machines", personal.machines),
            export.Section("requests", personal.requests),
            export.Section("operations", personal.operations),
        ]
        policies.REALM_ACCOUNTS.append(realms.accounts())
        removal.HOLDINGS.append(personal.holdings)
        transitions.LISTENERS.append(approvals.heard)
        sweep.SWEEPS += [approvals.mend, terms.remind, terms.shut_down_over]
