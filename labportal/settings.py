"""Settings, all of them from the environment. `.env.example` explains every variable."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from . import settings_directory, settings_sso

BASE_DIR = Path(__file__).resolve().parent.parent


class Environment(environ.Env):  # type: ignore[misc]  # django-environ has no types
    """Takes every value as it stands. django-environ takes one that begins with $, as a password may, for the name of another variable."""

    def get_value(self, var: str, cast: Any = None, **how: Any) -> Any:
        value = self.ENVIRON.get(var)
        return self.parse_value(value, cast) if isinstance(value, str) and value.startswith("$") else super().get_value(var, cast, **how)


env = Environment()
if env_file := env.str("LABPORTAL_ENV_FILE", default=""):
    if not Path(env_file).is_file():
        raise ImproperlyConfigured(f"LABPORTAL_ENV_FILE names {env_file}, which is not there.")
    environ.Env.read_env(env_file)
elif (BASE_DIR / ".env").is_file():
    environ.Env.read_env(BASE_DIR / ".env")


def _required(name: str, hint: str) -> str:
    value: str = env.str(name, default="")
    if not value:
        raise ImproperlyConfigured(f"{name} is not set. {hint}")
    return value


def _read(name: str, kind: str, default: Any) -> Any:
    """A value of another type than text; a wrong one is named in the error."""
    try:
        return getattr(env, kind)(name, default=default)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} is not a valid {kind}: {error}") from None


# -- what this installation is -----------------------------------------------------------------

DEBUG = _read("DEBUG", "bool", False)
SECRET_KEY = _required("SECRET_KEY", "bin/up makes one; otherwise take 50 random characters.")
FIELD_KEYS = [key for key in _required("FIELD_KEYS", "bin/up makes one; otherwise run: head -c 32 /dev/urandom | base64 | tr '+/' '-_'").split(",") if key]
PORTAL_ID = _required("PORTAL_ID", "It labels this installation's machines on the clusters: any UUID, never changed.")
PORTAL_NAME = env.str("PORTAL_NAME", default="labportal")
DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / "data"))).resolve()
SITE_URL = env.str("SITE_URL", default="http://localhost:8000").rstrip("/")
ALLOWED_HOSTS = _read("ALLOWED_HOSTS", "list", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = _read("CSRF_TRUSTED_ORIGINS", "list", [SITE_URL])
DEMO = _read("DEMO", "bool", False)  # shows the demo banner

try:
    from cryptography.fernet import Fernet

    for _key in FIELD_KEYS:
        Fernet(_key)
except ValueError:
    raise ImproperlyConfigured("FIELD_KEYS holds a key that is no Fernet key. Make one with: head -c 32 /dev/urandom | base64 | tr '+/' '-_'") from None

SINGLE_SIGN_ON = settings_sso.read(env)
DIRECTORY = settings_directory.read(env)

# -- applications ------------------------------------------------------------------------------

INSTALLED_APPS = [
    "daphne",
    "labportal.administration.Administration",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",  # allauth.usersessions needs it
    "whitenoise.runserver_nostatic",
    "labportal.assets.StaticFiles",
    "channels",
    "django_htmx",
    "django_q",
    "csp",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    *SINGLE_SIGN_ON.apps,
    "ninja",
    "accounts",
    "machines",
    "classes",
    "sessions",
    "console",
    "labportal",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "labportal.middleware.FeaturePolicy",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "accounts.middleware.Origin",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.middleware_person.LastSeen",
    "accounts.middleware_person.OwnPreferences",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.middleware.SecondFactorRequired",
    "django_htmx.middleware.HtmxMiddleware",
    "labportal.middleware.HtmxAnswers",
    "accounts.middleware.ViewingAs",
]

ROOT_URLCONF = "labportal.urls"
ASGI_APPLICATION = "labportal.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "labportal.context.portal",
            ],
        },
    },
]

# -- database ----------------------------------------------------------------------------------

try:
    DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{DATA_DIR}/labportal.sqlite3")}
except (ValueError, environ.ImproperlyConfigured) as error:
    raise ImproperlyConfigured(f"DATABASE_URL is wrong: {error}") from None
if DATABASES["default"]["ENGINE"] not in {"django.db.backends.sqlite3", "django.db.backends.postgresql"}:
    raise ImproperlyConfigured("DATABASE_URL must begin with sqlite:// or postgres://.")
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # Web, worker and watcher write to one file. IMMEDIATE takes the write lock where a transaction
    # begins, so none dies in the middle with "database is locked", and our backend lets everybody
    # have it in turn (docs/architecture.md, Database).
    DATABASES["default"]["ENGINE"] = "labportal.sqlite"
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=20000;",
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = 60
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {
    # What need not outlive the web process, and each has for itself: the counters of ACCOUNT_RATE_LIMITS, which answers of
    # SAML were used, documents and keys of OpenID Connect, and which browsers were just seen. In the database, a hundred
    # people who sign in at once wait for it so long that some are refused.
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}},
    "queue": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},  # figures of django-q2 that nobody reads
}

# -- people ------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    *(["accounts.directory_backend.DirectoryBackend"] if DIRECTORY else []),
    "accounts.backends.LocalBackend",
    "machines.realm.RealmBackend",
]
PASSWORD_HASHERS = ["accounts.hashers.PBKDF2InTurn"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = env.str("EMAIL_VERIFICATION", default="optional" if DEMO else "mandatory")
if ACCOUNT_EMAIL_VERIFICATION not in {"none", "optional", "mandatory"}:
    raise ImproperlyConfigured("EMAIL_VERIFICATION must be none, optional or mandatory.")
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True  # in the browser in which they signed up
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_MAX_EMAIL_ADDRESSES = 10  # of one person: each new one gets a mail, whoever it belongs to
SIGN_UP = env.str("SIGN_UP", default="open")
if SIGN_UP not in {"open", "closed"}:
    raise ImproperlyConfigured("SIGN_UP must be open or closed.")
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {
    "login": "accounts.forms.SignInForm",
    "signup": "accounts.forms.SignUpForm",
    "reset_password": "accounts.forms.ForgottenPasswordForm",
    "reset_password_from_key": "accounts.forms.NewPasswordForm",
    "change_password": "accounts.forms.ChangePasswordForm",
    "set_password": "accounts.forms.SetPasswordForm",
    "add_email": "accounts.forms.AddAddressForm",
    "reauthenticate": "accounts.forms.PasswordAgainForm",
}
ACCOUNT_EMAIL_SUBJECT_PREFIX = f"[{PORTAL_NAME}] "
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_SESSION_REMEMBER = True
# A lecture hall signs up and in within minutes, from one address: what is narrow there are failures, and those of one
# account. Passwords, codes and tokens count only when they are wrong; signup, login, reset_password, single_sign_on,
# export and api whatever comes of it.
ACCOUNT_RATE_LIMITS = {
    "signup": "600/5m/ip",
    "login": "3000/5m/ip",
    "login_failed": "5/5m/key",  # passwords of one account from one network (accounts.throttling); codes of one from anywhere
    "login_failed_anywhere": "100/1h/key",
    "login_failed_network": "600/5m/ip",
    "login_failed_known_browser": "5/5m/key",  # of one account, in a browser in which its person signed in before
    "login_failed_known_anywhere": "100/1h/key",  # and in all such browsers
    "reset_password": "120/5m/ip,3/5m/key",
    "join_code": "300/5m/ip",
    "single_sign_on": "1200/5m/ip",  # a SAML sign-in counts twice
    "export": "6/1h/user",
    "api": "600/1m/key",  # with one token
    "api_token_failed": "120/5m/ip",  # keeps nobody out who has a good one (accounts.bearer)
}
API_TOKEN_MAX_DAYS = _read("API_TOKEN_MAX_DAYS", "int", 365)  # 0: they last as long as they were made for

# -- the second factor -------------------------------------------------------------------------

# Browsers offer security keys and passkeys to sites that have a name, over https or on this computer.
_site = urlsplit(SITE_URL)
_on_this_computer = _site.hostname == "localhost" or (_site.hostname or "").endswith(".localhost")
_takes_keys = _on_this_computer or (_site.scheme == "https" and re.fullmatch(r"[\d.]+|.*:.*", _site.hostname or "") is None)
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes", *(["webauthn"] if _takes_keys else [])]
MFA_ADAPTER = "accounts.second_factor.SecondFactorAdapter"
MFA_FORMS = {
    "authenticate": "accounts.forms_second_factor.CodeForm",
    "reauthenticate": "accounts.forms_second_factor.CodeAgainForm",
    "activate_totp": "accounts.forms_second_factor.FirstCodeForm",
    "login_webauthn": "accounts.forms_second_factor.KeySignInForm",
    "authenticate_webauthn": "accounts.forms_second_factor.KeyForm",
    "reauthenticate_webauthn": "accounts.forms_second_factor.KeyAgainForm",
    "add_webauthn": "accounts.forms_second_factor.AddKeyForm",
    "edit_webauthn": "accounts.forms_second_factor.RenameKeyForm",
}
MFA_TOTP_ISSUER = PORTAL_NAME
MFA_TOTP_TOLERANCE = 1  # clocks of telephones are seconds off, and a code is typed while it ends
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = _site.scheme == "http" and _on_this_computer
MFA_ALLOW_UNVERIFIED_EMAIL = True  # EMAIL_VERIFICATION keeps out whoever owns no address; staff undo what is left
MFA_RATE_LIMITS = {"webauthn_login": "600/5m/ip"}  # a lecture hall, see ACCOUNT_RATE_LIMITS, which holds the limits of codes
SSO_BRINGS_SECOND_FACTOR = _read("SSO_BRINGS_SECOND_FACTOR", "bool", False)  # where a role requires one
ACCOUNT_REAUTHENTICATION_REQUIRED = True  # for a new address, as for a new factor
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300  # seconds for which a password, key or code counts for what needs it again
ACCOUNT_EMAIL_NOTIFICATIONS = True  # of a changed password, address or factor

# -- single sign-on ----------------------------------------------------------------------------
# People are known by their identity there (accounts.services.identities), never by an address.

SOCIALACCOUNT_ADAPTER = "accounts.sso.adapter.SocialAccountAdapter"
SOCIALACCOUNT_PROVIDERS = SINGLE_SIGN_ON.providers
SOCIALACCOUNT_FORMS = {"signup": "accounts.sso.forms.SecondAccountForm"}
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False
SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = False
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"  # who they are is known; their address is verified or not, as it was told
SOCIALACCOUNT_LOGIN_ON_GET = False
SOCIALACCOUNT_REAUTHENTICATION_REQUIRED = True  # to connect and disconnect accounts
SOCIALACCOUNT_REQUESTS_TIMEOUT = 4  # seconds; one sign-in waits for at most four answers
SOCIALACCOUNT_STORE_TOKENS = False

# -- mail --------------------------------------------------------------------------------------

try:
    vars().update(env.email_url("EMAIL_URL", default="consolemail://"))
except (ValueError, environ.ImproperlyConfigured) as error:
    raise ImproperlyConfigured(f"EMAIL_URL is wrong: {error}") from None
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="labportal@localhost")
EMAIL_TIMEOUT = 10

# How long the record of what people did is kept. The database lets go nothing that is younger than thirty days.
AUDIT_DAYS = _read("AUDIT_DAYS", "int", 365)
if AUDIT_DAYS and AUDIT_DAYS < 31:
    raise ImproperlyConfigured("AUDIT_DAYS must be 0, to keep the record for ever, or at least 31.")

# -- the worker and the watcher ----------------------------------------------------------------
# In this order, held by a system check (machines.checks):
# provider call < step slice < worker timeout < lease < queue retry.

PROVIDER_CALL_SECONDS = _read("PROVIDER_CALL_SECONDS", "int", 60)
SLICE_SECONDS = _read("SLICE_SECONDS", "int", 70)
WORKER_TIMEOUT_SECONDS = _read("WORKER_TIMEOUT_SECONDS", "int", 90)
LEASE_SECONDS = _read("LEASE_SECONDS", "int", 120)
OPERATION_ATTEMPTS = 5
WATCH_SECONDS = _read("WATCH_SECONDS", "float", 1.0)  # between two looks at a cluster
WORKERS = _read("WORKERS", "int", 4)
CLASS_MAX_MACHINES = _read("CLASS_MAX_MACHINES", "int", 500)  # of one class; 0: as many as are asked for
CLUSTERS_FILE = env.str("CLUSTERS_FILE", default="")  # read where the watcher starts
DIRECTORY_SYNC_HOUR = _read("DIRECTORY_SYNC_HOUR", "int", 3)  # of TIME_ZONE
if not 0 <= DIRECTORY_SYNC_HOUR <= 23:
    raise ImproperlyConfigured("DIRECTORY_SYNC_HOUR must be an hour of the day, 0 to 23.")

Q_CLUSTER = {
    "name": "labportal",
    "orm": "default",
    "workers": WORKERS,
    "timeout": WORKER_TIMEOUT_SECONDS,
    "retry": _read("QUEUE_RETRY_SECONDS", "int", 300),
    "queue_limit": 1,  # what is prefetched is delivered twice when it waits too long
    "poll": 0.1,
    "max_attempts": 3,
    "ack_failures": True,
    "save_limit": -1,  # keep no rows of finished doorbells
    "catch_up": False,
    "cache": "queue",
    "label": "Worker",
}

# -- web ---------------------------------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", default=str(DATA_DIR / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "labportal.assets.HashedFiles"},
}

_https = SITE_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_HSTS_SECONDS = 31536000 if _https else 0
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]  # a portal seldom speaks for the subdomains of its host
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_SSL_REDIRECT = _read("SECURE_SSL_REDIRECT", "bool", False)
if _read("BEHIND_PROXY", "bool", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    ALLAUTH_TRUSTED_PROXY_COUNT = 1
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],  # Bootstrap's icons are data: URLs in its style sheet
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        "manifest-src": ["'self'"],
    }
}
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

# -- language and time -------------------------------------------------------------------------

LANGUAGES = [("en", "English"), ("de", "Deutsch")]  # each in itself, for those who read nothing else
LANGUAGE_CODE = env.str("LANGUAGE", default="en")
if LANGUAGE_CODE not in dict(LANGUAGES):
    raise ImproperlyConfigured(f"LANGUAGE must be one of {', '.join(dict(LANGUAGES))}.")
FORMAT_MODULE_PATH = ["labportal.formats"]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = env.str("TIME_ZONE", default="UTC")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "filters": {"one_line": {"()": "labportal.log.OneLine"}, "without_keys": {"()": "labportal.log.WithoutKeys"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {
        "asyncssh": {"level": "WARNING"},  # ten lines for every terminal
        "daphne": {"level": "WARNING"},
        "django-q": {"level": "WARNING"},  # two lines for every doorbell
        "allauth.socialaccount.providers.saml.views": {"filters": ["one_line"]},
        "django.security.DisallowedHost": {"filters": ["one_line"]},
        "django.security.csrf": {"filters": ["without_keys"]},
        "django.request": {"level": "ERROR", "filters": ["without_keys"]},  # a 404 is in labportal.access
    },
}
