"""The pages where staff adopt machines that a cluster had before the portal."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from accounts.http import person
from accounts.models import User
from machines.forms_adoption import AdoptForm, ConfirmForm, MappingForm
from machines.models import Cluster
from machines.services import adoption
from machines.services.refusal import Refused

GUESTS_PER_PAGE = 50
PEOPLE_SUGGESTED = 500


def cluster_page(of: admin.ModelAdmin, request: HttpRequest, cluster: Cluster, name: str, **context: Any) -> HttpResponse:
    """A page of a cluster's beside its form."""
    return TemplateResponse(
        request, f"admin/machines/cluster/{name}.html", {**of.admin_site.each_context(request), "opts": of.opts, "cluster": cluster, **context}
    )


def _problems(form: forms.Form) -> list[str]:
    return [str(problem) for problems in form.errors.values() for problem in problems]


class Adoption(admin.ModelAdmin):
    """Of the clusters' admin: what can be adopted, one by one or by a file."""

    def of(self, request: HttpRequest, pk: int) -> Cluster:
        raise NotImplementedError

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        own = [
            path("<int:pk>/adopt/", view(self.adopt_view), name="machines_cluster_adopt"),
            path("<int:pk>/adopt/file/", view(self.file_view), name="machines_cluster_adopt_file"),
            path("<int:pk>/adopt/export/", view(self.export_view), name="machines_cluster_adopt_export"),
        ]
        return [*own, *super().get_urls()]

    def adopt_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        cluster = self.of(request, pk)
        form = AdoptForm(request.POST or None)
        if form.is_bound and form.is_valid():
            told = form.cleaned_data
            try:
                machine = adoption.adopt(cluster, told["ref"], acting_user=person(request), owner=told["owner"], name=told["name"])
                self.message_user(request, _("%(machine)s is being adopted.") % {"machine": machine}, messages.SUCCESS)
            except Refused as refusal:
                self.message_user(request, refusal.message, messages.ERROR)
            return redirect(request.path)
        for problem in _problems(form):
            self.message_user(request, problem, messages.ERROR)
        query = request.GET.get("q", "").strip()
        found = [guest for guest in adoption.guests(cluster) if any(query.lower() in guest[name].lower() for name in ("ref", "name", "node"))]
        page = Paginator(found, GUESTS_PER_PAGE).get_page(request.GET.get("page"))
        page.object_list = [{**guest, "suggested": adoption.name_for(guest)} for guest in page.object_list]
        people = User.objects.filter(is_active=True).order_by("username").values_list("username", flat=True)[:PEOPLE_SUGGESTED]
        context = {"page": page, "query": query, "people": people, "form": MappingForm()}
        return cluster_page(self, request, cluster, "adopt", title=_("Adopt machines"), **context)

    def file_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A file is shown line by line with what it would do; what is confirmed is judged once more."""
        cluster = self.of(request, pk)
        here = reverse("admin:machines_cluster_adopt", args=[pk])
        confirmed = "mapping" in request.POST
        form = ConfirmForm(request.POST) if confirmed else MappingForm(request.POST, request.FILES)
        if request.method != "POST" or not form.is_valid():
            for problem in _problems(form):
                self.message_user(request, problem, messages.ERROR)
            return redirect(here)
        text = form.cleaned_data["mapping" if confirmed else "file"]
        try:
            lines = adoption.read_mapping(cluster, text)
        except Refused as refusal:
            self.message_user(request, refusal.message, messages.ERROR)
            return redirect(here)
        if not confirmed:
            good = sum(not line.problem for line in lines)
            confirm = ConfirmForm(initial={"mapping": text})
            before = here, _("Adopt machines")
            return cluster_page(self, request, cluster, "adopt_file", title=_("By a file"), before=before, lines=lines, good=good, form=confirm)
        machines, refused = adoption.adopt_lines(cluster, lines, acting_user=person(request))
        told = ngettext("%(count)d machine is being adopted.", "%(count)d machines are being adopted.", len(machines)) % {"count": len(machines)}
        self.message_user(request, told, messages.SUCCESS)
        for problem in refused:
            self.message_user(request, problem, messages.WARNING)
        return redirect(here)

    def export_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        cluster = self.of(request, pk)
        answer = JsonResponse(adoption.mapping(cluster), json_dumps_params={"indent": 2})
        answer["Content-Disposition"] = 'attachment; filename="adopted.json"'
        return answer
