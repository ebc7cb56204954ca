"""The queue of requests, where staff decide. The page records the decision; workers make the machine."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import date as date_format
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from accounts.http import person
from machines.forms import described
from machines.forms_requests import AnswerForm, DecisionForm
from machines.lifecycle import State
from machines.models import TO_DECIDE, Cluster, MachineRequest, RequestMail, RequestState
from machines.selectors import approvals as asked
from machines.selectors.display import memory
from machines.selectors.quotas import Quota, quota_of
from machines.services import approvals, terms
from machines.services.refusal import Refused


class StateFilter(admin.SimpleListFilter):
    """What waits for staff, unless another state is asked for."""

    title = _("state")
    parameter_name = "state"
    ALL, OVER = "all", "over"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*RequestState.choices, (self.OVER, _("Its time is over")), (self.ALL, _("All"))]

    def choices(self, changelist: Any) -> Any:
        first = {"selected": self.value() is None, "query_string": changelist.get_query_string(remove=[self.parameter_name]), "display": _("To decide")}
        return [first, *list(super().choices(changelist))[1:]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[MachineRequest]) -> QuerySet[MachineRequest]:
        match self.value():
            case None:
                # Whoever opens a single one, or decides on what another has just decided, finds it all the same.
                return queryset if request.method == "POST" else queryset.filter(state__in=TO_DECIDE)
            case self.ALL:
                return queryset
            case self.OVER:
                return asked.over(queryset)
            case state:
                return queryset.filter(state=state)


class MailInline(admin.TabularInline):
    model = RequestMail
    fields = readonly_fields = ("subject", "to", "created_at", "sent_at", "attempts", "problem")
    extra = 0
    can_delete = False
    verbose_name_plural = _("mails")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(MachineRequest)
class MachineRequestAdmin(admin.ModelAdmin):
    records_itself = True
    form = DecisionForm
    change_form_template = "admin/machines/machinerequest/change_form.html"
    list_display = ("wanted", "requester", "why", "room", "days", "shown")
    list_filter = (StateFilter, ("template__cluster", admin.RelatedOnlyFieldListFilter), "tier")
    list_select_related = ("requester", "template__cluster", "tier", "machine")
    list_per_page = 50
    search_fields = ("requester__username", "requester__first_name", "requester__last_name", "template__name", "reason", "machine__name")
    ordering = ("id",)  # who waits longest comes first
    actions = ("approve_many", "reject_many")
    inlines = (MailInline,)
    readonly_fields = ("shown", "requester", "reason", "wanted", "size", "room_in_full", "quota", "created_at", "made", "problem", "decision")
    fieldsets = (
        (None, {"fields": ("shown", "requester", "reason", "wanted", "size", "created_at", "until")}),
        (_("Room on the cluster"), {"fields": ("room_in_full",)}),
        (_("Limits of the person"), {"fields": ("quota",), "description": _("Machines of classes do not count.")}),
        (_("What became of it"), {"fields": ("decision", "made", "problem")}),
        (_("Your decision"), {"fields": ("answer",)}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        self.rooms = asked.Rooms()
        response: HttpResponse = super().changelist_view(request, {"title": _("Requests"), **(extra_context or {})})
        return response

    def get_fieldsets(self, request: HttpRequest, obj: MachineRequest | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return fieldsets if obj is not None and obj.can_be_decided else fieldsets[:-1]

    # -- what a row says ---------------------------------------------------------------------------

    @admin.display(description=_("request"), ordering="template__name")
    def wanted(self, request: MachineRequest) -> str:
        """Template, size, kind and cluster."""
        what = {"request": request, "kind": request.template.get_kind_display(), "cluster": request.template.cluster}
        return gettext("%(request)s (%(kind)s) on %(cluster)s") % what

    @admin.display(description=_("why"))
    def why(self, request: MachineRequest) -> str:
        return request.reason if len(request.reason) <= 160 else f"{request.reason[:159]}…"

    @admin.display(description=_("asked, until"), ordering="created_at")
    def days(self, request: MachineRequest) -> SafeString:
        asked_on, until = (date_format(day, "SHORT_DATE_FORMAT") for day in (timezone.localtime(request.created_at), request.until))
        return format_html('<span title="{}">{}</span><br>{}', timezone.localtime(request.created_at).strftime("%F %T"), asked_on, until)

    @admin.display(description=_("size"))
    def size(self, request: MachineRequest) -> str:
        return f"{request.tier}: {described(request.tier)}"

    @admin.display(description=_("state"), ordering="state")
    def shown(self, request: MachineRequest) -> SafeString:
        badge = asked.shown(request)
        problem = format_html("<br>{}", request.problem) if request.problem else ""
        return format_html('<span class="tone tone-{}">{}</span>{}', badge.tone, badge.word, problem)

    @admin.display(description=_("free memory"))
    def room(self, request: MachineRequest) -> Any:
        if not request.can_be_decided:
            return "–"
        return _verdict(self.rooms.of(request.template.cluster).after([request]))

    @admin.display(description=_("if approved"))
    def room_in_full(self, request: MachineRequest) -> Any:
        if not request.can_be_decided:
            return "–"
        return _in_full(asked.Rooms().of(request.template.cluster).after([request]))

    @admin.display(description=_("used now"))
    def quota(self, request: MachineRequest) -> Any:
        quota, person = quota_of(request.requester), request.requester
        return render_to_string("admin/machines/machinerequest/quota.html", {"quota": quota, "person": person, "over": self._over(request, quota)})

    @staticmethod
    def _over(request: MachineRequest, quota: Quota) -> bool:
        """Whether the machine would go beyond a limit. The one that could not be made counts already."""
        made = request.machine is not None and request.machine.state != State.DESTROYED
        return request.can_be_decided and not made and bool(quota.exceeded_by(machines=1, cores=request.tier.cores, memory_mib=request.tier.memory_mib))

    @admin.display(description=_("decision"))
    def decision(self, request: MachineRequest) -> str:
        if request.decided_at is None:
            return "–"
        said = f" {request.answer}" if request.answer else ""
        return _("%(who)s: %(state)s.%(said)s") % {"who": request.decided_by or request.requester, "state": request.get_state_display(), "said": said}

    @admin.display(description=_("machine"))
    def made(self, request: MachineRequest) -> Any:
        machine = request.machine
        if machine is None:
            return "–"
        if machine.state == State.DESTROYED:
            return f"{machine}: {machine.get_state_display()}"
        return format_html('<a href="{}">{}</a>: {}', reverse("machines:machine", args=[machine.key]), machine, machine.get_state_display())

    # -- one ---------------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: MachineRequest, form: Any, change: bool) -> None:
        """Only the last day; all else may have changed since the page was opened."""
        if "until" in form.changed_data:
            terms.set_until(MachineRequest.objects.get(pk=obj.pk), obj.until, acting_user=person(request))

    def response_change(self, request: HttpRequest, obj: MachineRequest) -> HttpResponse:
        wish = next((wish for wish in ("approve", "reject") if f"_{wish}" in request.POST), None)
        if wish is None:
            response: HttpResponse = super().response_change(request, obj)
            return response
        done = self._decide(request, wish, [obj], request.POST.get("answer", ""))
        return redirect("admin:machines_machinerequest_changelist") if done else redirect(request.path)

    # -- many --------------------------------------------------------------------------------------

    @admin.action(description=_("Approve"), permissions=["change"])
    def approve_many(self, request: HttpRequest, chosen: QuerySet[MachineRequest]) -> HttpResponse | None:
        return self._ask_and_decide(request, chosen, "approve")

    @admin.action(description=_("Reject"), permissions=["change"])
    def reject_many(self, request: HttpRequest, chosen: QuerySet[MachineRequest]) -> HttpResponse | None:
        return self._ask_and_decide(request, chosen, "reject")

    def _ask_and_decide(self, request: HttpRequest, chosen: QuerySet[MachineRequest], wish: str) -> HttpResponse | None:
        """A page with what is decided and the answer, then the decision."""
        wanted = list(chosen.select_related(*self.list_select_related).order_by("id"))
        form = AnswerForm(request.POST if "decide" in request.POST else None, needed=wish == "reject")
        if form.is_bound and form.is_valid():
            self._decide(request, wish, wanted, form.cleaned_data["answer"])
            return None
        to_decide = [one for one in wanted if one.can_be_decided]
        context = {
            **self.admin_site.each_context(request),
            "title": _("Approve requests") if wish == "approve" else _("Reject requests"),
            "opts": self.opts,
            "requests": to_decide,
            "decided_already": len(wanted) - len(to_decide),
            "verdicts": [_in_full(verdict) for verdict in _per_cluster(to_decide)],
            "wish": wish,
            "action": f"{wish}_many",
            "checkbox": ACTION_CHECKBOX_NAME,
            "form": form,
        }
        return TemplateResponse(request, "admin/machines/machinerequest/decide.html", context)

    def _decide(self, request: HttpRequest, wish: str, wanted: Iterable[MachineRequest], answer: str) -> int:
        """Each by itself: one that cannot be decided holds up no other. Returns how many were."""
        done = 0
        for one in wanted:
            try:
                if wish == "approve":
                    approvals.approve(one, acting_user=person(request), answer=answer)
                else:
                    approvals.reject(one, acting_user=person(request), answer=answer)
                done += 1
            except Refused as refusal:
                self.message_user(request, refusal.message, messages.WARNING)
        if done and wish == "approve":
            said = ngettext("%(count)d request is approved: the machine is being made.", "%(count)d requests are approved: the machines are being made.", done)
            self.message_user(request, said % {"count": done}, messages.SUCCESS)
        elif done:
            self.message_user(request, ngettext("%(count)d request is rejected.", "%(count)d requests are rejected.", done) % {"count": done}, messages.SUCCESS)
        return done


def _per_cluster(requests: Iterable[MachineRequest]) -> list[asked.Verdict]:
    """How each cluster would be with the machines of all these requests."""
    by_cluster: dict[Cluster, list[MachineRequest]] = {}
    for one in requests:
        by_cluster.setdefault(one.template.cluster, []).append(one)
    rooms = asked.Rooms()
    return [rooms.of(cluster).after(ones) for cluster, ones in by_cluster.items()]


_TONES = {"enough": "on", "tight": "lost", "full": "bad", "unknown": "off"}


def _verdict(verdict: asked.Verdict) -> SafeString:
    """In one line: “Enough: 6 GiB → 4 GiB”."""
    if verdict.room.cluster.maintenance:
        return format_html('<span class="tone tone-lost">{}</span>', gettext("In maintenance"))
    if verdict.room.memory is None or verdict.memory_left is None:
        return format_html('<span class="tone tone-off">{}</span>', verdict.word)
    return format_html(
        '<span class="tone tone-{}">{}</span> {} → {}', _TONES[verdict.tone], verdict.word, memory(verdict.room.memory.free), _signed(verdict.memory_left)
    )


def _in_full(verdict: asked.Verdict) -> SafeString:
    room = verdict.room
    lines = [gettext("The cluster is in maintenance: the machine is made when that is over.")] if room.cluster.maintenance else []
    if room.memory is None or verdict.memory_left is None:
        lines.append(gettext("Memory: not known, the cluster has told of no host."))
    else:
        figures = {"free": memory(room.memory.free), "total": memory(room.memory.total), "left": _signed(verdict.memory_left)}
        lines.append(gettext("Memory: %(free)s of %(total)s free now, %(left)s after.") % figures)
        lines.append(gettext("The largest host has %(most)s free; a machine is made on one host.") % {"most": memory(room.memory.largest)})
    cores = {"on": room.cores_on, "after": verdict.cores_on, "total": room.cores if room.cores else gettext("an unknown number of")}
    lines.append(gettext("Cores: machines that are on have %(on)s of %(total)s now, %(after)s after. Cores are shared.") % cores)
    if verdict.disk_left is None:
        lines.append(gettext("Disk: not known; the cluster says so when it is full."))
    else:
        disk = {"free": memory(1024 * (room.cluster.disk_free_gib or 0)), "total": memory(1024 * (room.cluster.disk_total_gib or 0))}
        disk["left"] = _signed(1024 * verdict.disk_left)
        lines.append(gettext("Disk: %(free)s of %(total)s free now, %(left)s when the machines will have filled theirs.") % disk)
    if room.stale:
        lines.append(gettext("The cluster does not answer at the moment: these figures are old."))
    return format_html(
        '<strong>{}</strong> <span class="tone tone-{}">{}</span><br>{}',
        room.cluster, _TONES[verdict.tone], verdict.word, format_html_join(SafeString("<br>"), "{}", ((line,) for line in lines)),
    )  # fmt: skip


def _signed(mib: int) -> str:
    return memory(mib) if mib >= 0 else f"−{memory(-mib)}"
