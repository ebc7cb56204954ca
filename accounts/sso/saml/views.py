"""allauth's views of SAML, with limits to what anybody may post, and a page of ours for whatever goes wrong."""

import logging
from typing import Any

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.providers.saml import views
from allauth.socialaccount.providers.saml.utils import build_saml_config, get_app_or_404
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from onelogin.saml2.errors import OneLogin_Saml2_Error
from onelogin.saml2.settings import OneLogin_Saml2_Settings

from accounts.sso.errors import SignInRefused, unreachable, untrustworthy
from accounts.sso.pages import begins, ends

log = logging.getLogger(__name__)

# Bytes: one that is signed and encrypted and names 400 groups of fifty letters each has 70 000. Seconds.
_LONGEST_ANSWER, _WAITS = 80_000, 300


@require_http_methods(["GET", "POST"])
@begins
def login(request: HttpRequest, organization_slug: str) -> HttpResponse:
    try:
        return _asked(request, organization_slug, views.login)
    except SignInRefused:
        raise
    except Exception as error:  # the library has no class of its own for metadata that are none
        log.exception("%s: the metadata cannot be used", organization_slug)
        raise untrustworthy(_provider(request, organization_slug), type(error).__name__) from error


@csrf_exempt  # the identity provider's page posts it; what it is worth is found out in `finish`, with this browser's own session
@require_POST
@ends
def answered(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """Keeps the answer for a moment and leads on: a POST from another site comes without the session of this one."""
    if len(request.POST.urlencode()) > _LONGEST_ANSWER:  # which is what is kept
        raise untrustworthy(get_adapter(request).get_provider(request, organization_slug), "the answer is too long")
    response: HttpResponse = views.acs(request, organization_slug=organization_slug)
    store: Any = request.saml_acs_session  # type: ignore[attr-defined]  # allauth put it there
    store.set_expiry(_WAITS)
    store.save()
    return response


@require_GET
@ends
def finish(request: HttpRequest, organization_slug: str) -> HttpResponse:
    return _asked(request, organization_slug, views.finish_acs)


@require_GET
def metadata(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """What the identity provider has to know of the portal. Signing out there is not offered, so it is not announced."""
    app = get_app_or_404(request, organization_slug)
    config = build_saml_config(request, app.settings | {"idp": {"entity_id": "", "x509cert": "", "sso_url": ""}}, organization_slug)
    del config["sp"]["singleLogoutService"]
    return HttpResponse(OneLogin_Saml2_Settings(settings=config, sp_validation_only=True).get_sp_metadata(), content_type="application/samlmetadata+xml")


@require_GET
def sign_out(request: HttpRequest, organization_slug: str) -> HttpResponse:
    """The library wants an address for it. Who signs out here stays signed in there, and the other way round."""
    raise Http404


def _asked(request: HttpRequest, organization_slug: str, view: Any) -> HttpResponse:
    """Whatever reads the identity provider's metadata, which may be out of reach."""
    try:
        response: HttpResponse = view(request, organization_slug=organization_slug)
        return response
    except OSError as error:
        raise unreachable(_provider(request, organization_slug), type(error).__name__) from error
    except OneLogin_Saml2_Error as error:
        raise untrustworthy(_provider(request, organization_slug), type(error).__name__) from error


def _provider(request: HttpRequest, organization_slug: str) -> Any:
    return get_adapter(request).get_provider(request, organization_slug)
