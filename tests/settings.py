"""Settings of the tests: those of the product with keys of their own and quick passwords."""

import os
import tempfile

os.environ.setdefault("SECRET_KEY", "only-for-tests-only-for-tests-only-for-tests-1234")
os.environ.setdefault("FIELD_KEYS", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
os.environ.setdefault("PORTAL_ID", "7e57ab1e-0000-4000-8000-000000000000")
os.environ.setdefault("DATA_DIR", tempfile.mkdtemp(prefix="labportal-test-"))
os.environ.setdefault("EMAIL_URL", "memorymail://")
if database := os.environ.get("TEST_DATABASE_URL"):
    os.environ["DATABASE_URL"] = database

from labportal.settings import *

# The addresses of single sign-on are there, and no system behind them: tests that need one configure it (tests/sso).
INSTALLED_APPS += [app for app in ("accounts.sso.openid_connect", "accounts.sso.saml") if app not in INSTALLED_APPS]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
WHITENOISE_AUTOREFRESH = True  # nothing is collected, so there is no folder to look through
if "postgresql" in DATABASES["default"]["ENGINE"]:
    DATABASES["default"]["CONN_MAX_AGE"] = 0  # threads that outlive their test would keep its database from being dropped
else:
    DATABASES["default"]["TEST"] = {"NAME": ":memory:"}  # pytest-django knows Django's own engine alone to be in memory
