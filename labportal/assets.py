"""What is served as static files, and whether the third-party part of it is there.

That part is built by bin/assets and never committed.
"""

from functools import lru_cache

from django.contrib.staticfiles import finders
from django.contrib.staticfiles.apps import StaticFilesConfig
from django.contrib.staticfiles.storage import ManifestFilesMixin, staticfiles_storage
from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFiles(StaticFilesConfig):
    """Collects without what nothing uses: htmx's extensions, of which one names a module that is not there, and the API viewers of ninja."""

    ignore_patterns = [*StaticFilesConfig.ignore_patterns, "django_htmx/ext/*", "django_htmx/htm*-4*", "ninja/*", "*.map"]


class HashedFiles(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # whitenoise has no types
    """Files under names with their hash, so that browsers keep them for ever; modules import each other by these names."""

    support_js_module_import_aggregation = True


@lru_cache(maxsize=1)
def vendor_is_built() -> bool:
    """Looked up once per process: a page says plainly what is missing instead of breaking."""
    if isinstance(staticfiles_storage, ManifestFilesMixin):
        return "vendor/icons.svg" in staticfiles_storage.hashed_files
    return finders.find("vendor/icons.svg") is not None
