"""A list of people: judged line by line, taken in whole or not at all, and the same again when repeated."""

import time

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.urls import reverse

from accounts.models import DIRECTORY, AuditEntry, Identity, PasswordLetter, Role, User
from accounts.services import directory, identities, letters, people_import
from accounts.services.people_import import ImportRefused, judge, take_in
from classes.models import Enrolment
from tests.classes.rows import add_machines, enrol, make_class
from tests.directory.config import config_for
from tests.factories import make_user
from tests.slapd import black_hole

pytestmark = pytest.mark.django_db

GOOD = """username,email,first_name,last_name,role,class
ada,Ada@uni.test,Ada,Lovelace,teacher,
grace,grace@uni.test,Grace,"Hopper, Dr.",,
"""


@pytest.fixture
def sam():
    return make_user("sam", role=Role.STAFF)


@pytest.fixture
def root():
    return make_user("root", role=Role.STAFF, is_superuser=True)


def problems(text: str, by: User) -> dict[int, str]:
    return {line.number: " ".join(line.problems) for line in judge(text, acting_user=by) if line.problems}


def test_a_list_is_taken_in(sam):
    done = take_in(GOOD, acting_user=sam)
    assert (done.made, done.unchanged, done.mails) == (2, 0, 2)
    ada, grace = User.objects.get(username="ada"), User.objects.get(username="grace")
    assert (ada.email, ada.role, ada.is_staff, ada.has_usable_password()) == ("ada@uni.test", Role.TEACHER, False, False)
    assert (grace.last_name, grace.role) == ("Hopper, Dr.", Role.STUDENT)
    assert not EmailAddress.objects.get(user=ada).verified
    assert AuditEntry.objects.filter(action="user.made", actor=sam).count() == 2
    assert AuditEntry.objects.get(action="user.import").data["made"] == 2
    assert letters.send_due() == 2 and {sent.to[0] for sent in mail.outbox} == {"ada@uni.test", "grace@uni.test"}


def test_whoever_chooses_a_password_by_that_mail_has_confirmed_the_address(client, sam):
    take_in(GOOD, acting_user=sam)
    ada = User.objects.get(username="ada")
    form = client.get(letters.password_link(ada), follow=True)
    client.post(form.request["PATH_INFO"], {"password1": "correct horse battery", "password2": "correct horse battery"})
    assert EmailAddress.objects.get(user=ada).verified
    assert AuditEntry.objects.get(action="user.address_confirmed", actor=ada).data["email"] == "ada@uni.test"


def test_done_again_it_changes_nothing(sam):
    take_in(GOOD, acting_user=sam)
    User.objects.filter(username="ada").update(first_name="Augusta", role=Role.STUDENT)
    done = take_in(GOOD, acting_user=sam)
    assert (done.made, done.unchanged, done.mails) == (0, 2, 0)
    assert User.objects.get(username="ada").first_name == "Augusta"
    assert AuditEntry.objects.filter(action="user.import").count() == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_as_spreadsheets_write_it(sam, delimiter, newline):
    text = "\ufeff" + newline.join(delimiter.join(row) for row in (["Email", " Username "], ["zoë@uni.test", "x"], ["grace@uni.test", "grace"], ["", ""]))
    lines = judge(text.replace("zoë", "zoe"), acting_user=sam)
    assert [(line.number, line.values["username"]) for line in lines] == [(2, "x"), (3, "grace")]
    assert take_in(text.replace("zoë", "zoe"), acting_user=sam).made == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("username,email\n", "no people"),
        ("name,mail\nada,ada@uni.test\n", "Missing: username, email"),
        ("username,email,password\nada,ada@uni.test,x\n", "mean nothing here: password"),
        ("username,email,is_superuser\nada,ada@uni.test,1\n", "mean nothing here: is_superuser"),
        ("username,email,username\nada,ada@uni.test,x\n", "twice"),
        ('username,email\n"ada,ada@uni.test\n', "cannot be read"),
        ("username,email\n" + "a,b\n" * 5001, "too long"),
    ],
)
def test_what_is_no_list_of_people(sam, text, why):
    with pytest.raises(ImportRefused, match=why):
        judge(text, acting_user=sam)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("=cmd|'/c calc'!A1,ada@uni.test,,,,", "username begins like a formula"),
        ("ada,ada@uni.test,=1+1,,,", "first_name begins like a formula"),
        ("ada,ada@uni.test,,@SUM(A1),,", "last_name begins like a formula"),
        ("-ada,ada@uni.test,,,,", "username begins like a formula"),
        ("ada,ada@uni.test,A\u202eda,,,", "first_name has control characters"),
        ("a\x00da,ada@uni.test,,,,", "username has control characters"),
        ("ada,ada@uni.test,A\u200bda,,,", "control characters"),
        (",ada@uni.test,,,,", "username is empty"),
        ("ada,,,,,", "email is empty"),
        ("ada,ada,,,,", "valid email"),
        ("ada@pve,ada@uni.test,,,,", "has no @"),
        ("a da,ada@uni.test,,,,", "valid username"),
        ("ada,ada@uni.test,,,boss,", "no role “boss”"),
        ("ada,ada@uni.test,,,staff,", "Only a superuser"),
        ("ada,ada@uni.test,,,,nowhere", "no class “nowhere”"),
        ("ada,ada@uni.test", "has 2 columns, not 6"),
        ("ada,ada@uni.test,,,,,,", "has 8 columns, not 6"),
        (f"{'a' * 151},ada@uni.test,,,,", "longer than 150"),
        (f"ada,ada@uni.test,{'a' * 151},,,", "longer than 150"),
    ],
)
def test_each_problem_is_told_with_its_line(sam, row, why):
    text = f"username,email,first_name,last_name,role,class\ngrace,grace@uni.test,,,,\n{row}\n"
    assert why in problems(text, sam)[3]
    with pytest.raises(ImportRefused, match="in these lines: 3"):
        take_in(text, acting_user=sam)
    assert not User.objects.filter(username="grace").exists() and not PasswordLetter.objects.exists()


def test_two_lines_of_one_person(sam):
    text = "username,email\nada,ada@uni.test\nADA,other@uni.test\ngrace,Ada@Uni.test\n"
    assert problems(text, sam) == {3: "username is in line 2 already.", 4: "email is in line 2 already."}


def test_lines_count_as_in_an_editor(sam):
    text = 'username,email,first_name\n\nada,ada@uni.test,"Ada"\n\n=x,x@uni.test,\n'
    assert list(problems(text, sam)) == [5]


def test_what_somebody_has_is_not_given_again(sam):
    eve = make_user("eve")
    EmailAddress.objects.create(user=eve, email="Second@uni.test", verified=False)
    closed = make_user("closed", is_active=False)
    Identity.objects.create(user=make_user("al1"), source=DIRECTORY, uid="1", name="Turing")
    told = problems(
        f"username,email\nEVE,other@uni.test\nada,eve@uni.test\ngrace,second@uni.test\nclosed,{closed.email}\nturing,turing@uni.test\n",
        sam,
    )
    assert told == {
        2: "Somebody else has this user name.",
        3: "Somebody else has this address.",
        4: "Somebody else has this address.",
        5: "This account is closed.",
        6: "This is the name of somebody who signs in with an account of another system.",
    }


@pytest.mark.parametrize("verified", [False, True])
def test_who_never_confirmed_the_address_is_not_taken_for_the_person(sam, verified):
    """Anybody can sign up as bob with Bob's address, and wait for the list with Bob in it."""
    lab_class = make_class("Web basics")
    add_machines(lab_class, 1)
    bob = make_user("bob")
    EmailAddress.objects.filter(user=bob).update(verified=verified)
    text = f"username,email,class\nbob,bob@uni.test,{lab_class.slug}\n"
    if verified:
        assert take_in(text, acting_user=sam).enrolled == 1
    else:
        assert "never confirmed the address" in problems(text, sam)[2]


@pytest.mark.parametrize("source", [DIRECTORY, "sso:university"])
def test_what_another_system_merely_claims_is_not_taken_for_confirmed(sam, source):
    """Single sign-on lets people choose their name there, and says of the address that nobody has confirmed it."""
    add_machines(make_class("Databases"), 1)
    text = "username,email,class\nada,ada@uni.test,Databases\n"
    identities.settle(source, "mallory", name="ada", email="ada@uni.test", email_verified=False, role=None)
    assert "never confirmed the address" in problems(text, sam)[2]
    with pytest.raises(ImportRefused, match="in these lines: 2"):
        take_in(text, acting_user=sam)
    identities.settle(source, "mallory", name="ada", email="ada@uni.test", email_verified=True, role=None)
    assert take_in(text, acting_user=sam).enrolled == 1


def has_people(monkeypatch, *names: str) -> list[int]:
    """A directory with these names and addresses alone; returns of how many it was asked each time."""
    asked = []
    monkeypatch.setattr(directory, "client", object)
    monkeypatch.setattr(directory, "holds_any", lambda some: asked.append(len(some)) or bool({*some} & {*names}))
    return asked


def test_names_of_the_directory_are_left_to_it(sam, monkeypatch):
    has_people(monkeypatch, "turing", "ada@uni.test")
    told = problems("username,email\nturing,x@uni.test\nada,ada@uni.test\ngrace,grace@uni.test\n", sam)
    assert list(told) == [2, 3] and "university directory has this name" in told[2]
    with pytest.raises(ImportRefused, match="in these lines: 2"):
        take_in("username,email\nturing,x@uni.test\n", acting_user=sam)
    monkeypatch.setattr(people_import, "MOST_WITH_DIRECTORY", 1)
    with pytest.raises(ImportRefused, match="at most 1 new people at once"):
        judge("username,email\na,a@uni.test\nb,b@uni.test\n", acting_user=sam)


def test_the_directory_is_asked_while_nothing_is_locked(sam, monkeypatch):
    inside = []
    monkeypatch.setattr(directory, "client", object)
    monkeypatch.setattr(directory, "holds_any", lambda names: inside.append(len(connection.savepoint_ids)))
    before = len(connection.savepoint_ids)
    take_in(GOOD, acting_user=sam)
    assert inside == [before], "once, for all"


def test_who_is_in_the_directory_is_found_among_many(sam, monkeypatch):
    asked = has_people(monkeypatch, "student7", "student399@uni.test")
    rows = "".join(f"student{n},student{n}@uni.test\n" for n in range(400))
    assert list(problems(f"username,email\n{rows}", sam)) == [9, 401]
    assert len(asked) < 40


def test_a_directory_that_hangs_costs_its_time_once(sam, settings):
    rows = "".join(f"student{n},student{n}@uni.test\n" for n in range(100))
    with black_hole() as hole:
        settings.DIRECTORY = config_for(None, hole, timeout=0.5)
        began = time.monotonic()
        with pytest.raises(ImportRefused, match="does not answer"):
            judge(f"username,email\n{rows}", acting_user=sam)
    assert time.monotonic() - began < 3


def test_a_directory_that_is_slow_does_not_hold_the_page_up_without_end(sam, monkeypatch):
    has_people(monkeypatch, "ada")
    monkeypatch.setattr(people_import, "_PATIENCE", 0)
    with pytest.raises(ImportRefused, match="takes too long"):
        judge(GOOD, acting_user=sam)


def test_only_superusers_take_in_staff(root):
    take_in("username,email,role\nkim,kim@uni.test,staff\n", acting_user=root)
    kim = User.objects.get(username="kim")
    assert kim.is_staff and not kim.is_superuser


# -- classes -------------------------------------------------------------------------------------


def test_people_join_a_class_by_its_name_or_short_name(sam):
    lab_class = make_class("Web basics")
    add_machines(lab_class, 1)
    here = make_user("here")
    enrol(lab_class, here)
    text = f"username,email,class\nada,ada@uni.test,Web basics\ngrace,grace@uni.test,{lab_class.slug}\nhere,here@uni.test,web-basics\n"
    assert [line.joins for line in judge(text, acting_user=sam)] == [True, True, False]
    assert take_in(text, acting_user=sam).enrolled == 2
    assert set(Enrolment.objects.filter(lab_class=lab_class).values_list("student__username", flat=True)) == {"ada", "grace", "here"}
    assert take_in(text, acting_user=sam).enrolled == 0
    assert AuditEntry.objects.filter(action="class.join", data__by="import").count() == 2


@pytest.mark.parametrize("column", people_import.COLUMNS)
def test_a_letter_that_a_database_refuses_is_a_problem_of_its_line(sam, column):
    """PostgreSQL refuses a query that has it."""
    make_class("Web basics")
    good = {"username": "ada", "email": "ada@uni.test", "first_name": "Ada", "last_name": "Lovelace", "role": "student", "class": "Web basics"}
    row = good | {column: good[column][:1] + "\0" + good[column][1:]}
    assert problems(",".join(row) + "\n" + ",".join(row.values()) + "\n", sam) == {2: f"{column} has control characters."}


def test_a_class_is_looked_up_for_lines_without_a_problem_alone(sam, monkeypatch):
    asked = []
    monkeypatch.setattr(people_import.CLASSES[0], "named", lambda names: asked.append(set(names)) or {})
    problems("username,email,class\nada,ada@uni.test,Web\ngrace,grace,Net\nalan,alan@uni.test,O\0S\n", sam)
    assert asked == [{"Web"}]


def test_a_name_of_two_classes_names_none(sam):
    make_class("Web basics")
    make_class("Web basics")
    assert "or there are several" in problems("username,email,class\nada,ada@uni.test,Web basics\n", sam)[2]


def test_two_lists_at_once_lock_the_classes_in_one_order(sam, monkeypatch):
    web, net = make_class("Web basics"), make_class("Networks")
    locked = []
    monkeypatch.setattr(people_import.CLASSES[0], "enrol", lambda lab_class, *students, **who: locked.append(lab_class))
    take_in("username,email,class\nada,ada@uni.test,Networks\ngrace,grace@uni.test,Web basics\n", acting_user=sam)
    assert locked == [web, net]


# -- the pages -----------------------------------------------------------------------------------


@pytest.fixture
def staff(client, sam):
    client.force_login(sam)
    return client


URL = "/admin/accounts/user/import/"


def upload(client, content: str | bytes, **options):
    content = content if isinstance(content, bytes) else content.encode()
    return client.post(URL, {"file": SimpleUploadedFile("people.csv", content)}, **options)


def told(response) -> str:
    return " ".join(str(message) for message in response.context["messages"])


def test_nothing_is_written_until_it_is_confirmed(staff):
    shown = upload(staff, GOOD)
    page = shown.content.decode()
    assert "Nothing is written yet" in page and "Take in 2 people" in page and User.objects.count() == 1
    done = staff.post(URL, {"people": GOOD}, follow=True)
    assert "2 people are new." in told(done) and "2 mails are on their way." in told(done)
    assert User.objects.count() == 3


def test_what_is_confirmed_is_judged_once_more(staff):
    response = staff.post(URL, {"people": "username,email,role\nkim,kim@uni.test,staff\n"}, follow=True)
    assert "Nothing was taken in" in told(response) and User.objects.count() == 1


def test_a_list_with_a_problem_cannot_be_confirmed(staff):
    page = upload(staff, "username,email\n<script>,ada@uni.test\n=x,b@uni.test\n").content.decode()
    assert "2 lines cannot be taken in" in page and "Take in" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"\xff\xfe\x00", "not UTF-8"), (b"x" * (1024 * 1024 + 1), "too large"), (b"", "empty"), ("Größe".encode("latin-1"), "not UTF-8")],
)
def test_what_is_no_text_of_that_size(staff, content, why):
    assert why in told(upload(staff, content, follow=True))


def test_without_mail_it_says_so(staff, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    assert "sends no mail" in staff.get(URL).content.decode()
    assert "sends no mail" in told(staff.post(URL, {"people": GOOD}, follow=True))
    assert not PasswordLetter.objects.exists()


def test_a_list_of_the_largest_size(staff):
    text = "username;email;first_name;last_name\n" + "".join(f"student{n};student{n}@uni.test;Zoë;Müller-{n}\n" for n in range(people_import.MOST_LINES))
    page = upload(staff, text).content.decode()
    assert "Take in 5000 people" in page and "and 4800 more lines" in page
    assert "5000 people are new." in told(staff.post(URL, {"people": text}, follow=True))
    assert User.objects.filter(username__startswith="student").count() == people_import.MOST_LINES


def test_it_is_for_staff_alone(client):
    client.force_login(make_user(role=Role.TEACHER))
    assert client.get(URL).status_code == client.post(URL, {"people": GOOD}).status_code == 302
    assert not User.objects.filter(username="ada").exists() and reverse("admin:accounts_user_import") == URL
