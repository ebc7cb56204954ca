"""The second factor: set up, asked for, required of a role, taken away, recorded and kept encrypted."""

import re
import time

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from asgiref.sync import async_to_sync
from channels.testing import WebsocketCommunicator
from cryptography.fernet import Fernet
from django.contrib.sessions.models import Session
from django.core import mail
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from accounts.models import DIRECTORY, AuditEntry, Identity, Role, RolePolicy
from accounts.policies import needs_second_factor
from accounts.presence import Visit, over
from accounts.services import directory, letters
from accounts.services.second_factors import SecondFactorRefused, reset
from tests.directory.config import config_for
from tests.factories import PASSWORD, make_machine, make_user
from tests.slapd import password_of
from tests.tokens import Program, make_token

pytestmark = pytest.mark.django_db

commits = pytest.mark.django_db(transaction=True)  # allauth tells of what it changed when that is committed

STEP = 30  # seconds a code of an app is shown


@pytest.fixture(autouse=True)
def fresh_limits():
    cache.clear()


@pytest.fixture
def ada():
    return make_user("ada")


@pytest.fixture
def secret(ada):
    """Ada has an authenticator app."""
    secret = generate_totp_secret()
    TOTP.activate(ada, secret)
    return secret


def code_of(secret, later=0):
    """What an app shows, `later` codes from now."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // STEP + later))


def sign_in(client, user, password=PASSWORD):
    return client.post(reverse("account_login"), {"login": user.username, "password": password})


def give(client, code):
    return client.post(reverse("mfa_authenticate"), {"code": code})


def is_signed_in(client):
    return client.get(reverse("accounts:profile")).status_code == 200


def require_of(role):
    RolePolicy.objects.update_or_create(role=role, defaults={"second_factor": True})


def actions():
    return list(AuditEntry.objects.filter(action__startswith="second_factor").order_by("id").values_list("action", flat=True))


def set_up_app(client):
    """The page with the secret, and the first code of it; answers the secret."""
    page = client.get(reverse("mfa_activate_totp"))
    secret = client.session["mfa.totp.secret"]
    assert secret in page.content.decode()
    answer = client.post(reverse("mfa_activate_totp"), {"code": code_of(secret)})
    assert answer.url == reverse("mfa_view_recovery_codes")
    return secret


# -- setting up ------------------------------------------------------------------------------------


@commits
def test_an_app_is_set_up_and_its_codes_are_asked_for(client, ada):
    sign_in(client, ada)
    secret = set_up_app(client)
    assert actions() == ["second_factor.added"] * 2  # the app, and the recovery codes with it
    assert [letter.subject for letter in mail.outbox] == ["[labportal] An authenticator app was set up"]
    client.logout()
    assert sign_in(client, ada).url == reverse("mfa_authenticate")
    assert not is_signed_in(client)
    give(client, code_of(secret, later=1))
    assert is_signed_in(client)


@commits
def test_the_code_that_set_the_app_up_opens_no_door(client, ada):
    sign_in(client, ada)
    secret = set_up_app(client)
    client.logout()
    sign_in(client, ada)
    give(client, code_of(secret))
    assert not is_signed_in(client)


def test_recovery_codes_are_shown_once_and_open_the_door_once(client, ada):
    sign_in(client, ada)
    set_up_app(client)
    codes = re.findall(r"<li><code>(\d{8})</code>", client.get(reverse("mfa_view_recovery_codes")).content.decode())
    assert len(codes) == 10
    assert not any(code in client.get(reverse("mfa_view_recovery_codes")).content.decode() for code in codes)
    assert client.get(reverse("mfa_download_recovery_codes")).status_code == 403
    client.logout()
    sign_in(client, ada)
    give(client, codes[0])
    assert is_signed_in(client)
    client.logout()
    sign_in(client, ada)
    give(client, codes[0])
    assert not is_signed_in(client)
    used = AuditEntry.objects.get(action="second_factor.recovery_code_used")
    assert used.data == {"left": 9}
    assert [letter.subject for letter in mail.outbox] == ["[labportal] A recovery code was used"]


def test_new_recovery_codes_end_the_old_ones(client, ada, secret):
    old = RecoveryCodes.activate(ada).get_unused_codes()
    sign_in(client, ada)
    give(client, code_of(secret))
    client.post(reverse("mfa_generate_recovery_codes"))
    new = RecoveryCodes.activate(ada).get_unused_codes()
    assert len(new) == 10 and not set(old) & set(new)


# -- asking ----------------------------------------------------------------------------------------


def test_a_code_opens_the_door_once(client, ada, secret):
    code = code_of(secret)
    sign_in(client, ada)
    give(client, code)
    assert is_signed_in(client)
    other = Client()
    sign_in(other, ada)
    cache.clear()  # what one web process remembers is not what it depends on
    answer = give(other, code)
    assert not is_signed_in(other)
    assert "used already" in answer.content.decode()


def test_a_clock_may_be_half_a_minute_off_and_no_more(client, ada, secret):
    for later, right in ((-2, False), (2, False), (-1, True)):
        sign_in(client, ada)
        give(client, code_of(secret, later))
        assert is_signed_in(client) is right, later


def test_wrong_codes_are_counted_for_the_account(ada, secret):
    for _ in range(5):
        guesser = Client()
        sign_in(guesser, ada)
        assert "This is not right" in give(guesser, "000000").content.decode()
    ours = Client()
    sign_in(ours, ada)
    answer = give(ours, code_of(secret))
    assert "Too many wrong codes" in answer.content.decode()
    assert not is_signed_in(ours)
    entry = AuditEntry.objects.filter(action="second_factor.wrong_code").first()
    assert (entry.actor, entry.object_name, entry.outcome, entry.address) == (None, "ada", "refused", "127.0.0.1")


def test_changing_factors_asks_again_some_minutes_after_signing_in(client, ada, secret):
    sign_in(client, ada)
    give(client, code_of(secret))
    pages = ["mfa_deactivate_totp", "mfa_add_webauthn", "mfa_generate_recovery_codes"]
    assert [client.get(reverse(name)).status_code for name in pages] == [200, 200, 200]
    age(client)
    for name in pages:
        assert client.get(reverse(name)).url.startswith(reverse("account_reauthenticate")), name
    assert client.post(reverse("account_reauthenticate"), {"password": "wrong"}).status_code == 200
    assert client.get(reverse(pages[0])).status_code == 302
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    assert client.get(reverse(pages[0])).status_code == 200


def age(client, seconds=301):
    """The person at this browser showed who they are that long ago."""
    session = client.session
    for record in session["account_authentication_methods"]:
        record["at"] -= seconds
    session.save()


def test_a_code_shows_again_who_one_is(client, ada, secret):
    sign_in(client, ada)
    give(client, code_of(secret))
    age(client)
    client.post(reverse("mfa_reauthenticate"), {"code": code_of(secret)})  # used already
    assert client.get(reverse("mfa_deactivate_totp")).status_code == 302
    client.post(reverse("mfa_reauthenticate"), {"code": code_of(secret, later=1)})
    assert client.get(reverse("mfa_deactivate_totp")).status_code == 200


def test_people_of_the_directory_give_the_password_of_the_directory_again(client, settings, still_slapd):
    settings.DIRECTORY = config_for(still_slapd)
    settings.AUTHENTICATION_BACKENDS = [directory.BACKEND, *(path for path in settings.AUTHENTICATION_BACKENDS if path != directory.BACKEND)]
    client.post(reverse("account_login"), {"login": "alice", "password": password_of("alice")})
    assert is_signed_in(client)
    assert client.get(reverse("mfa_activate_totp")).status_code == 200
    age(client)
    assert client.get(reverse("mfa_activate_totp")).url.startswith(reverse("account_reauthenticate"))
    for uid, status in (("bob", 302), ("alice", 200)):
        client.post(reverse("account_reauthenticate"), {"password": password_of(uid)})
        assert client.get(reverse("mfa_activate_totp")).status_code == status, uid


def test_people_of_single_sign_on_sign_in_anew_before_they_set_one_up(client, ada):
    ada.set_unusable_password()
    ada.save()
    Identity.objects.create(user=ada, source="sso:uni", uid="17", name="ada")
    client.force_login(ada)
    for name in ("mfa_activate_totp", "mfa_add_webauthn"):
        assert client.get(reverse(name)).url == reverse("mfa_index")
    assert "Sign out and in again first" in client.get(reverse("mfa_index")).content.decode()


# -- required of a role ----------------------------------------------------------------------------


@pytest.fixture
def owing(ada):
    require_of(Role.STUDENT)
    return ada


def test_who_must_have_one_can_do_nothing_else_before(client, owing):
    machine = make_machine("web-07", owner=owing)
    sign_in(client, owing)
    for path in ("/", reverse("machines:machine", args=[machine.key]), reverse("classes:list"), reverse("accounts:profile"), reverse("admin:index")):
        assert client.get(path).url == reverse("mfa_index"), path
    assert client.post(reverse("machines:power", args=[machine.key, "start"])).url == reverse("mfa_index")
    assert client.post(reverse("console:ticket", args=[machine.key]), {"kind": "screen"}).url == reverse("mfa_index")
    assert client.get("/", headers={"HX-Request": "true"}).headers["HX-Redirect"] == reverse("mfa_index")
    machine.refresh_from_db()
    assert machine.state == "stopped"
    page = client.get(reverse("mfa_index")).content.decode()
    assert "Set up a second factor to go on" in page
    assert client.get(reverse("account_logout")).status_code == 200


def test_setting_it_up_opens_the_portal_at_once(client, owing):
    sign_in(client, owing)
    assert client.get("/").status_code == 302
    set_up_app(client)
    assert client.get(reverse("mfa_view_recovery_codes")).status_code == 200
    assert client.get("/").status_code == 200


def test_it_is_required_the_moment_staff_say_so_and_of_that_role_alone(client, ada):
    kim = make_user("kim", role=Role.TEACHER)
    client.force_login(ada)
    assert client.get("/").status_code == 200
    require_of(Role.STUDENT)
    assert client.get("/").status_code == 302
    client.force_login(kim)
    assert client.get(reverse("classes:list")).status_code == 200
    RolePolicy.objects.update(second_factor=False)
    client.force_login(ada)
    assert client.get("/").status_code == 200


def test_superusers_count_as_staff(ada):
    require_of(Role.STAFF)
    assert not needs_second_factor(ada)
    ada.is_superuser = True
    ada.save()
    assert needs_second_factor(ada)


def test_it_costs_one_query(client, ada, django_assert_num_queries):
    require_of(Role.STUDENT)
    with django_assert_num_queries(1):
        assert needs_second_factor(ada)


def test_recovery_codes_alone_are_no_second_factor(ada):
    require_of(Role.STUDENT)
    RecoveryCodes.activate(ada)
    assert needs_second_factor(ada)


@pytest.mark.parametrize(("sources", "password", "exempt"), [(["sso:uni"], False, True), (["sso:uni", DIRECTORY], False, False), (["sso:uni"], True, False)])
def test_single_sign_on_brings_its_own_where_the_settings_say_so(owing, settings, sources, password, exempt):
    if not password:
        owing.set_unusable_password()
        owing.save()
    for source in sources:
        Identity.objects.create(user=owing, source=source, uid="17")
    assert needs_second_factor(owing)
    settings.SSO_BRINGS_SECOND_FACTOR = True
    assert needs_second_factor(owing) is not exempt


def test_the_last_one_stays_where_it_is_required(client, owing, secret):
    sign_in(client, owing)
    give(client, code_of(secret))
    answer = client.post(reverse("mfa_deactivate_totp"))
    assert "must have a second factor" in answer.content.decode()
    key = Authenticator.objects.create(user=owing, type="webauthn", data={"name": "blue", "credential": {}})
    client.post(reverse("mfa_deactivate_totp"))
    assert list(Authenticator.objects.filter(user=owing)) == [key]
    assert client.post(reverse("mfa_remove_webauthn", args=[key.pk])).url == reverse("mfa_index")
    assert Authenticator.objects.filter(pk=key.pk).exists()
    RolePolicy.objects.update(second_factor=False)
    client.post(reverse("mfa_remove_webauthn", args=[key.pk]))
    assert not Authenticator.objects.exists()


def test_nobody_removes_the_key_of_another(client, ada):
    key = Authenticator.objects.create(user=make_user(), type="webauthn", data={"name": "blue", "credential": {}})
    sign_in(client, ada)
    assert client.post(reverse("mfa_remove_webauthn", args=[key.pk])).status_code == 404
    assert client.post(reverse("mfa_edit_webauthn", args=[key.pk]), {"name": "mine"}).status_code == 404


def test_open_sockets_of_who_must_have_one_end(owing):
    client = Client()
    client.force_login(owing)
    visit = Visit(client.session.session_key, owing.pk, owing.get_session_auth_hash())
    assert over([visit]) == {visit}
    RolePolicy.objects.update(second_factor=False)
    assert over([visit]) == set()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/live/", "/console/screen/", "/console/terminal/"])
def test_no_socket_opens_for_who_must_have_one(path):
    from labportal.asgi import application

    ada = make_user("ada")
    require_of(Role.STUDENT)
    client = Client()
    client.force_login(ada)

    async def connect():
        headers = [(b"cookie", f"sessionid={client.session.session_key}".encode()), (b"origin", b"http://localhost"), (b"host", b"localhost")]
        socket = WebsocketCommunicator(application, path, headers=headers, subprotocols=["labportal.console", "ticket.x"])
        connected, _ = await socket.connect()
        await socket.disconnect()
        return connected

    assert not async_to_sync(connect)()
    RolePolicy.objects.update(second_factor=False)
    assert async_to_sync(connect)()


# -- staff ----------------------------------------------------------------------------------------


@commits
def test_staff_take_the_factors_of_somebody_away(client, ada, secret):
    RecoveryCodes.activate(ada)
    sign_in(client, ada)
    give(client, code_of(secret))
    token = make_token(ada)
    assert reset(ada, acting_user=make_user("sam", role=Role.STAFF)) == 2
    assert not Authenticator.objects.filter(user=ada).exists()
    assert not is_signed_in(client)
    assert Program(token).ask("get", "me").status_code == 401
    entry = AuditEntry.objects.get(action="second_factor.reset")
    assert (entry.actor_name, entry.object_name, entry.data) == ("sam", "ada", {"kinds": ["recovery_codes", "totp"]})
    letters.send_due()
    assert mail.outbox[-1].to == ["ada@uni.test"]
    assert mail.outbox[-1].subject == "[labportal] Your second factor was taken away"


def test_who_may_not_take_them_away(ada, secret):
    sam, root = make_user("sam", role=Role.STAFF), make_user("root", role=Role.STAFF, is_superuser=True)
    TOTP.activate(root, generate_totp_secret())
    TOTP.activate(eve := make_user("eve", role=Role.STAFF), generate_totp_secret())
    for user, acting_user in ((root, sam), (eve, sam), (sam, sam), (ada, make_user(role=Role.TEACHER)), (ada, ada)):
        with pytest.raises(SecondFactorRefused):
            reset(user, acting_user=acting_user)
    assert Authenticator.objects.count() == 3
    for user in (root, eve):
        assert reset(user, acting_user=make_user(role=Role.STAFF, is_superuser=True)) == 1


# -- at rest --------------------------------------------------------------------------------------


def database():
    """Everything in it, as text."""
    with connection.cursor() as cursor:
        text = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            text += [str(row) for row in cursor.fetchall()]
    return "\n".join(text)


def test_the_database_holds_no_secret_in_the_clear(client, ada):
    sign_in(client, ada)
    secret = set_up_app(client)
    codes = RecoveryCodes.activate(ada)
    held = database() + "".join(str(session.get_decoded()) for session in Session.objects.all())
    assert "totp" in held  # it was looked at
    seed = codes.instance.data["seed"]
    assert seed.startswith("gAAAA")
    for plain in (secret, *codes.get_unused_codes()):
        assert plain not in held


def test_the_keys_of_the_fields_are_rotated_for_them_too(ada, secret, settings):
    codes = RecoveryCodes.activate(ada).get_unused_codes()
    settings.FIELD_KEYS = [Fernet.generate_key().decode(), *settings.FIELD_KEYS]
    call_command("rotate_field_keys")
    assert AuditEntry.objects.filter(action="keys.rotated", object_name="mfa.Authenticator").get().data == {"rows": 2}
    settings.FIELD_KEYS = settings.FIELD_KEYS[:1]
    assert TOTP(Authenticator.objects.get(type="totp")).validate_code(code_of(secret))
    assert RecoveryCodes.activate(ada).get_unused_codes() == codes


# -- mail -----------------------------------------------------------------------------------------


def test_people_are_told_by_mail_of_a_changed_password(client, ada):
    sign_in(client, ada)
    new = "an admirable compiler"
    client.post(reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": new, "password2": new}, headers={"User-Agent": "Lynx"})
    [letter] = mail.outbox
    assert letter.subject == "[labportal] Your password was changed"
    assert "127.0.0.1" in letter.body and "Lynx" in letter.body and new not in letter.body


@commits
def test_what_was_changed_stays_when_the_mail_of_it_fails(client, ada, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_PORT = 1  # nobody listens
    sign_in(client, ada)
    set_up_app(client)
    assert Authenticator.objects.filter(user=ada, type="totp").exists()


# -- headers --------------------------------------------------------------------------------------


def test_pages_may_use_keys_and_pages_of_others_in_them_may_not(client):
    policy = client.get(reverse("account_login")).headers["Permissions-Policy"]
    assert "publickey-credentials-get=(self)" in policy and "publickey-credentials-create=(self)" in policy
