from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ClassesConfig(AppConfig):
    name = "classes"
    verbose_name = _("Classes")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts.services import export, removal
        from accounts.services.directory_check import CONSEQUENCES
        from accounts.services.people_import import CLASSES
        from accounts.signals import groups_read
        from classes import personal
        from classes.policies import machines_of_classes, machines_of_own_classes
        from classes.selectors import places_of_machines
        from classes.services import directory, people, pool
        from machines.policies import GRANTS
        from machines.selectors.pages import PLACES
        from machines.selectors.quotas import NOT_COUNTED
        from machines.services.feed import TOPICS
        from machines.services.sweep import SWEEPS
        from machines.services.transitions import LISTENERS

        export.SECTIONS += [export.Section("classes_joined", personal.joined), export.Section("classes_taught", personal.taught)]
        removal.HOLDINGS.append(personal.holdings)
        GRANTS.append(machines_of_own_classes)
        NOT_COUNTED.append(machines_of_classes)
        CLASSES.append(people.ForImports())
        CONSEQUENCES.append(directory.said_of)
        groups_read.connect(directory.heard)
        TOPICS.append(pool.class_topics)
        LISTENERS.append(pool.heard)
        PLACES.append(places_of_machines)
        SWEEPS.append(pool.mend)
