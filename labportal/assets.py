"""What is served as static files, and whether the third-party part of it is there.

That part is built by bin/assets and never committed.
"""

from functools import lru_cache

from django.contrib.staticfiles import finders
from django.contrib.staticfiles.apps import StaticFilesConfig
from django.contrib.staticfiles.storage import ManifestFilesMixin, staticfiles_storage


class StaticFiles(StaticFilesConfig):
    """Collects without what nothing uses: htmx's extensions, of which one names a module that is not there."""

    ignore_patterns = [*StaticFilesConfig.ignore_patterns, "django_htmx/ext/*", "django_htmx/htm*-4*", "*.map"]


@lru_cache(maxsize=1)
def vendor_is_built() -> bool:
    """Looked up once per process: a page says plainly what is missing instead of breaking."""
    if isinstance(staticfiles_storage, ManifestFilesMixin):
        return "vendor/icons.svg" in staticfiles_storage.hashed_files
    return finders.find("vendor/icons.svg") is not None
