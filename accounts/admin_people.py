"""People in the admin: who they are, how they get in, and what staff do with them. What other apps know of them is
added by `labportal.admin_people`, which registers this."""

from collections.abc import Callable
from typing import Any, ClassVar

from allauth.mfa.models import Authenticator
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from . import mail, viewing, ways_in
from .admin_people_verbs import VERBS, offered
from .forms_people import NewPersonForm, PeopleConfirmed, PeopleFile, PersonForm, RoleChoice, RolePolicyForm, ask_directory
from .http import person
from .models import DIRECTORY, Identity, Role, RolePolicy, User
from .policies import FACTORS, needs_second_factor
from .services import audit, people, people_import, role_rules, roles, second_factors
from .services import viewing as viewing_service
from .services.identities import password_is_elsewhere
from .services.people_import import ImportRefused
from .services.profiles import names_come_from
from .services.refusal import PersonRefused

_REFUSALS = (PersonRefused, roles.RoleRefused, second_factors.SecondFactorRefused)
_LINES_SHOWN = 200
_MOST_AT_ONCE = 500


class YesNoFilter(admin.SimpleListFilter):
    """People of whom something is so, or is not."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes")), ("no", _("No"))]

    def holding(self, found: QuerySet[User]) -> QuerySet[User]:
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        if self.value() not in ("yes", "no"):
            return queryset
        those = self.holding(User.objects.all()).values("pk")
        return queryset.filter(pk__in=those) if self.value() == "yes" else queryset.exclude(pk__in=those)


class SecondFactorFilter(YesNoFilter):
    title, parameter_name = _("second factor"), "second_factor"

    def holding(self, found: QuerySet[User]) -> QuerySet[User]:
        return found.filter(Exists(Authenticator.objects.filter(user=OuterRef("pk"), type__in=FACTORS)))


class GoneFilter(YesNoFilter):
    title, parameter_name = _("left the university"), "gone"

    def holding(self, found: QuerySet[User]) -> QuerySet[User]:
        return found.filter(Exists(Identity.objects.filter(user=OuterRef("pk"), missing_since__isnull=False)))


class RemovalFilter(YesNoFilter):
    title, parameter_name = _("asked to be removed"), "removal"

    def holding(self, found: QuerySet[User]) -> QuerySet[User]:
        return found.filter(removal_asked_at__isnull=False)


class PeopleAdmin(UserAdmin):
    records_itself = True
    form = PersonForm
    add_form = NewPersonForm
    add_form_template = None
    change_list_template = "admin/accounts/user/change_list.html"
    change_form_template = "admin/accounts/user/change_form.html"
    search_fields: ClassVar[Any] = ("username", "first_name", "last_name", "email", "emailaddress__email", "identities__name", "=identities__uid")
    list_per_page = 50
    show_full_result_count = False
    actions = ("give_role", "deactivate_many")
    filter_horizontal = ()
    readonly_fields: ClassVar[Any] = ("username", "is_active", "ways_in", "last_login", "date_joined", "removal_asked_at")
    add_fieldsets = ((None, {"fields": NewPersonForm.Meta.fields}),)
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("username", "first_name", "last_name", "email", "keyboard")}),
        (_("Rights"), {"fields": ("role", "is_superuser", "is_active")}),
        (
            _("Limits"),
            {
                "fields": people.LIMITS,
                "classes": ("limits",),
                "description": _("Outside classes; machines of classes do not count. Empty: as the role has it."),
            },
        ),
        (_("How they get in"), {"fields": ("ways_in",)}),
        (_("Dates"), {"fields": ("last_login", "date_joined", "removal_asked_at")}),
    )

    # -- who may -----------------------------------------------------------------------------------

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and people.untouchable(obj, acting_user=person(request)):
            return False
        return super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """An account is removed by its button, which looks at what depends on it."""
        return False

    # -- the list ----------------------------------------------------------------------------------

    @admin.display(description=_("name"), ordering="last_name")
    def full_name(self, user: User) -> str:
        return user.get_full_name()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response: HttpResponse = super().changelist_view(request, {"title": _("People"), **(extra_context or {})})
        return response

    # -- one ---------------------------------------------------------------------------------------

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]  # as UserAdmin has it
        form = super().get_form(request, obj, **kwargs)
        return type(form.__name__, (form,), {"acting_user": request.user, "directory_says": getattr(request, "directory_says", {})})

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """What another system says of somebody is not ours to change, and only superusers make superusers."""
        if obj is None:
            return ()
        fields = [*self.readonly_fields]
        if not person(request).is_superuser or obj.pk == person(request).pk:
            fields.append("is_superuser")
        if people.address_refusal(obj, acting_user=person(request)):
            fields.append("email")
        if names_come_from(obj):
            fields += ["first_name", "last_name"]
        return fields

    @admin.display(description=_("accounts, addresses, second factors"))
    def ways_in(self, user: User) -> str:
        return render_to_string(
            "admin/accounts/user/_ways_in.html",
            {"person": user, "ways": ways_in.of_person(user), "elsewhere": password_is_elsewhere(user), "DIRECTORY": DIRECTORY},
        )

    def sections(self, request: HttpRequest, user: User) -> list[dict[str, Any]]:
        """What stands below the form: a title, a template and its context."""
        return []

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], add: bool = False, change: bool = False, form_url: str = "", obj: Any = None
    ) -> HttpResponse:
        if obj is not None:
            acting_user = person(request)
            context |= {
                "verbs": offered(obj, ways_in.of_person(obj), acting_user=acting_user),
                "can_view_as": not viewing_service.refusal(obj, acting_user=acting_user),
                "can_set_password": self._sets_password(request, obj),
                "sections": self.sections(request, obj),
            }
        response: HttpResponse = super().render_change_form(request, context, add, change, form_url, obj)
        return response

    def save_model(self, request: HttpRequest, obj: User, form: forms.ModelForm, change: bool) -> None:
        """Each change by its service. All of one form, or nothing."""
        acting_user, told = person(request), form.cleaned_data
        if not change:
            goes_out = people.make([obj], acting_user=acting_user)
            self.message_user(request, _("%(user)s gets a mail to choose a password.") % {"user": obj} if goes_out else self._no_mail(), messages.INFO)
            return
        user = User.objects.get(pk=obj.pk)
        changed = set(form.changed_data) & set(told)
        with transaction.atomic():
            if changed & {"role", "is_superuser"}:
                roles.hold_staff()  # before this person: two who change each other would wait for each other
            if names := changed & {"first_name", "last_name", "keyboard"}:
                people.change(user, acting_user=acting_user, **{name: told[name] for name in names})
            if limits := changed & set(people.LIMITS):
                people.set_limits(user, acting_user=acting_user, **{name: told[name] for name in limits})
            if "email" in changed:
                people.set_address(user, told["email"], acting_user=acting_user)
            if "role" in changed:
                roles.set_role(user, told["role"], acting_user=acting_user)
            if "is_superuser" in changed:
                people.set_superuser(user, told["is_superuser"], acting_user=acting_user)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """There is nothing beside the row that this form writes."""

    @staticmethod
    def _no_mail() -> Any:
        return _("This portal sends no mail, so nobody can choose a password by one. Set one on the person's page, or set EMAIL_URL.")

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Not as UserAdmin has it, which begins a transaction before `changeform_view` does."""
        return self.changeform_view(request, None, form_url, extra_context)

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """The directory is asked before the transaction: who waits for it must not keep others from writing."""
        about = None if object_id is None else self.get_object(request, unquote(object_id))
        if request.method == "POST" and (about is None) == (object_id is None):
            request.directory_says = ask_directory(request.POST, about=about)  # type: ignore[attr-defined]
        try:
            response: HttpResponse = super().changeform_view(request, object_id, form_url, extra_context)
        except _REFUSALS as refusal:  # it was allowed when the form was judged
            self.message_user(request, refusal.message, messages.ERROR)
            return redirect(request.path)
        return response

    # -- a password, where no mail can bring one -----------------------------------------------------

    def _sets_password(self, request: HttpRequest, user: User) -> bool:
        """Only where the portal sends no mail: a password that two people know is none. Of people of other systems never."""
        if mail.is_sent() or not user.is_active or password_is_elsewhere(user):
            return False
        return not people.ways_in_refusal(user, acting_user=person(request))

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # the name is Django's
        user = self._person(request, int(id) if id.isdecimal() else 0)
        if not self._sets_password(request, user):
            raise PermissionDenied
        response: HttpResponse = super().user_change_password(request, id, form_url)
        if request.method == "POST" and response.status_code == 302:
            audit.record("user.password_given", acting_user=person(request), target=user)
        return response

    # -- more pages --------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        own = [
            path("import/", view(self.import_view), name="accounts_user_import"),
            path("<int:pk>/view-as/", view(self.view_as), name="accounts_user_view_as"),
            path("<int:pk>/<slug:word>/ask/", view(self.verb_view), name="accounts_user_verb"),
        ]
        return [*own, *super().get_urls()]

    def _person(self, request: HttpRequest, pk: int) -> User:
        user = User.objects.filter(pk=pk).first()
        if user is None:
            raise Http404
        if not self.has_change_permission(request, user):
            raise PermissionDenied
        return user

    def _page(self, request: HttpRequest, name: str, status: int = 200, **context: Any) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "opts": self.opts, **context}
        return TemplateResponse(request, f"admin/accounts/user/{name}.html", context, status=status)

    def verb_view(self, request: HttpRequest, pk: int, word: str) -> HttpResponse:
        """GET says what it means, POST does it."""
        user, verb = self._person(request, pk), VERBS.get(word)
        if verb is None:
            raise Http404
        if request.method == "POST":
            try:
                self.message_user(request, verb.do(user, person(request)), messages.SUCCESS)
                return redirect("admin:accounts_user_changelist") if verb.leaves_nobody else redirect("admin:accounts_user_change", pk)
            except _REFUSALS as refusal:
                self.message_user(request, refusal.message, messages.ERROR)
                return redirect("admin:accounts_user_change", pk)
        refusals = verb.refusals(user, person(request))
        return self._page(request, "verb", title=verb.word, person=user, verb=verb, refusals=refusals, means=[] if refusals else verb.means(user))

    def view_as(self, request: HttpRequest, pk: int) -> HttpResponse:
        if request.method != "POST":
            return HttpResponse(status=405, headers={"Allow": "POST"})
        try:
            viewing.begin(request, self._person(request, pk))
        except PersonRefused as refusal:
            self.message_user(request, refusal.message, messages.ERROR)
            return redirect("admin:accounts_user_change", pk)
        return redirect("/")

    def import_view(self, request: HttpRequest) -> HttpResponse:
        """A list is shown line by line with what it would do; what is confirmed is judged once more."""
        here = reverse("admin:accounts_user_import")
        if request.method != "POST":
            return self._page(request, "import", title=_("Import people"), form=PeopleFile(), columns=people_import.COLUMNS, most=people_import.MOST_LINES)
        confirmed = "people" in request.POST
        form = PeopleConfirmed(request.POST) if confirmed else PeopleFile(request.POST, request.FILES)
        try:
            if not form.is_valid():
                raise ImportRefused(" ".join(str(problem) for problems in form.errors.values() for problem in problems))
            text = form.cleaned_data["people" if confirmed else "file"]
            if confirmed:
                return self._taken_in(request, people_import.take_in(text, acting_user=person(request)))
            lines = people_import.judge(text, acting_user=person(request))
        except ImportRefused as refusal:
            self.message_user(request, refusal.message, messages.ERROR)
            return redirect(here)
        bad = [line for line in lines if line.problems]
        found: dict[str, Any] = {
            "lines": (bad or lines)[:_LINES_SHOWN],
            "bad": len(bad),
            "new": sum(line.is_new for line in lines),
            "joining": sum(line.joins for line in lines if not line.problems),
            "total": len(lines),
            "more": max(0, len(bad or lines) - _LINES_SHOWN),
            "form": PeopleConfirmed(initial={"people": text}),
        }
        return self._page(request, "import_lines", title=_("What this list would do"), before=(here, _("Import people")), **found)

    def _taken_in(self, request: HttpRequest, done: people_import.Done) -> HttpResponse:
        told = [
            ngettext("%(count)d person is new.", "%(count)d people are new.", done.made) % {"count": done.made},
            ngettext("%(count)d was here already.", "%(count)d were here already.", done.unchanged) % {"count": done.unchanged},
        ]
        if done.enrolled:
            told.append(ngettext("%(count)d joined a class.", "%(count)d joined a class.", done.enrolled) % {"count": done.enrolled})
        if done.mails:
            told.append(ngettext("%(count)d mail is on its way.", "%(count)d mails are on their way.", done.mails) % {"count": done.mails})
        self.message_user(request, " ".join(told), messages.SUCCESS)
        if done.made and not mail.is_sent():
            self.message_user(request, self._no_mail(), messages.WARNING)
        return redirect("admin:accounts_user_changelist")

    # -- many --------------------------------------------------------------------------------------

    @admin.action(description=_("Give a role"), permissions=["change"])
    def give_role(self, request: HttpRequest, chosen: QuerySet[User]) -> HttpResponse | None:
        form = RoleChoice(request.POST if "do" in request.POST else None)
        if form.is_bound and form.is_valid():
            role = form.cleaned_data["role"]
            self._each(request, chosen.exclude(role=role), lambda user: roles.set_role(user, role, acting_user=person(request)))
            return None
        return self._ask(request, chosen, "give_role", _("Give a role"), form=form)

    @admin.action(description=_("Close accounts"), permissions=["change"])
    def deactivate_many(self, request: HttpRequest, chosen: QuerySet[User]) -> HttpResponse | None:
        if "do" in request.POST:
            self._each(request, chosen, lambda user: people.deactivate(user, acting_user=person(request)))
            return None
        means = [_("They are signed out and cannot sign in any more; API tokens are revoked. Machines and classes stay as they are.")]
        return self._ask(request, chosen, "deactivate_many", _("Close accounts"), means=means, dangerous=True)

    def _ask(self, request: HttpRequest, chosen: QuerySet[User], action: str, title: Any, **context: Any) -> HttpResponse:
        if self._too_many(request, chosen):
            return redirect(request.get_full_path())
        found = chosen.order_by("username")
        return self._page(request, "many", title=title, people=found, action=action, checkbox=ACTION_CHECKBOX_NAME, **context)

    def _too_many(self, request: HttpRequest, chosen: QuerySet[User]) -> bool:
        too_many = chosen.count() > _MOST_AT_ONCE
        if too_many:
            self.message_user(request, _("Choose at most %(most)d people at once.") % {"most": _MOST_AT_ONCE}, messages.WARNING)
        return too_many

    def _each(self, request: HttpRequest, chosen: QuerySet[User], do: Callable[[User], object]) -> None:
        """Each by itself: one that is refused holds up no other, and the reason is said."""
        done = 0
        if self._too_many(request, chosen):
            return
        for user in User.objects.filter(pk__in=chosen.values("pk")).order_by("username"):
            try:
                if why := people.untouchable(user, acting_user=person(request)):
                    raise PersonRefused(why)
                do(user)
                done += 1
            except _REFUSALS as refusal:
                self.message_user(request, refusal.message, messages.WARNING)
        if done:
            self.message_user(request, ngettext("Done for %(count)d person.", "Done for %(count)d people.", done) % {"count": done}, messages.SUCCESS)


@admin.register(RolePolicy)
class RolePolicyAdmin(admin.ModelAdmin):
    """What holds for everybody of one role."""

    records_itself = True
    form = RolePolicyForm
    list_display = ("role", "second_factor", *people.LIMITS)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return super().has_add_permission(request) and RolePolicy.objects.count() < len(Role)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("role",) if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: RolePolicy, form: Any, change: bool) -> None:
        role_rules.save(obj, acting_user=person(request), changed=form.changed_data)
        if "second_factor" in form.changed_data and obj.second_factor and needs_second_factor(person(request)):
            self.message_user(request, _("You have no second factor yourself. Set one up now: nothing else is offered until you have."), messages.WARNING)
