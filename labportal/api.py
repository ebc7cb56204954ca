"""The API at /api/v1/: what the pages do, for programs. A token opens it, never a session, so no other site can use it through a browser."""

from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, URLResolver
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema

from accounts.api import router as people
from accounts.bearer import READ
from accounts.rest import ApiError
from classes.api import router as classes
from machines.api import router as machines
from machines.services.refusal import Refused


class Api(NinjaAPI):
    """Its schema is made once: that takes long, and anybody may ask for it. It says nothing of this installation."""

    @cached_property
    def schema(self) -> OpenAPISchema:
        return super().get_openapi_schema()

    def get_openapi_schema(self, *, path_prefix: str | None = None, path_params: dict[str, Any] | None = None) -> OpenAPISchema:
        return self.schema

    def _get_urls(self) -> list[URLResolver | URLPattern]:
        """Ninja answers a wrong method with plain text, and asks no handler of ours."""
        found = super()._get_urls()
        for pattern in found:
            if isinstance(pattern, URLPattern):
                pattern.callback = _with_wrong_methods_said(pattern.callback)
        return found


def _with_wrong_methods_said(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    @wraps(view)
    def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        if response.status_code != 405:
            return response
        said = _answer(request, 405, "wrong_method", _("What is at this address takes no %(method)s.") % {"method": request.method})
        said["Allow"] = response["Allow"]
        return said

    return answered


api = Api(
    title="labportal",
    version="1",
    description="Machines, requests and classes for programs. Send a token as `Authorization: Bearer …`.",
    urls_namespace="api",
    auth=READ["auth"],
    docs_url=None,  # that of ninja brings 8 MB of scripts; ours is below
)
api.add_router("", people)
api.add_router("", machines)
api.add_router("", classes)


def _answer(request: HttpRequest, status: int, code: str, message: str) -> HttpResponse:
    response = api.create_response(request, {"code": code, "message": message}, status=status)
    if status == 401:
        response["WWW-Authenticate"] = "Bearer" if code == "token_missing" else 'Bearer error="invalid_token"'
    return response


@api.exception_handler(ApiError)
def _said(request: HttpRequest, error: ApiError) -> HttpResponse:
    response = _answer(request, error.status, error.code, error.message)
    if error.retry_after is not None:
        response["Retry-After"] = str(error.retry_after)
    return response


@api.exception_handler(Refused)
def _refused(request: HttpRequest, refused: Refused) -> HttpResponse:
    return _answer(request, 409, refused.code, refused.message)


@api.exception_handler(Http404)
def _not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return _answer(request, 404, "not_found", _("There is nothing here that you may see."))


@api.exception_handler(PermissionDenied)
def _forbidden(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
    return _answer(request, 403, "forbidden", _("You may see this, and not do that with it."))


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """What is wrong first, and where; what was sent is not sent back."""
    first = error.errors[0]
    where = ".".join(str(step) for step in first["loc"][1:])
    return _answer(request, 422, "invalid", f"{where}: {first['msg']}")


@api.exception_handler(RequestDataTooBig)
def _too_large(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return _answer(request, 413, "too_large", _("This is more than the portal takes at once."))


@api.exception_handler(SuspiciousOperation)
def _suspicious(request: HttpRequest, error: SuspiciousOperation) -> HttpResponse:
    """More parameters than anybody means, and the like."""
    return _answer(request, 400, "malformed", _("The portal does not understand this request."))


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    return _answer(request, error.status_code, "malformed", error.message)


@csrf_exempt
def unknown(request: HttpRequest) -> HttpResponse:
    """No such path."""
    return _not_found(request, Http404())


@require_safe
@login_required
def docs(request: HttpRequest) -> HttpResponse:
    """What the API offers, as a page."""
    paths = [
        {"method": method.upper(), "path": path, "scope": operation["x-scope"], **operation}
        for path, operations in api.schema["paths"].items()
        for method, operation in operations.items()
    ]
    return render(request, "labportal/api.html", {"paths": paths})
