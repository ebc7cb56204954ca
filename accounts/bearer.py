"""How a request to the API says for whom it speaks: a token in its Authorization header, nowhere else.

Failures are counted by network and keep out nobody who has a good token, however many others behind the same
address try bad ones: guessing is hopeless in any case, the limit keeps the record short. Requests with a good one are
counted by token.
"""

from typing import Any

from allauth.core.internal import ratelimit  # the public one does not count GET
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja.security.http import HttpAuthBase

from accounts.adapter import address_of
from accounts.models import Scope, User
from accounts.rest import ApiError
from accounts.services import audit, tokens

_LIMITS = "allauth.account"  # whose settings hold the rates: ACCOUNT_RATE_LIMITS
_FAILURES_SECONDS, _REQUESTS_SECONDS = 300, 60  # over which they count


class Bearer(HttpAuthBase):
    """Lets in who presents a token with `scope`. The request is its person's from then on."""

    openapi_scheme = "bearer"

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope

    def __call__(self, request: HttpRequest) -> tokens.Grant:
        kind, _space, secret = request.headers.get("Authorization", "").partition(" ")
        secret = secret.strip()
        if kind.lower() != "bearer" or not secret:
            raise ApiError(401, "token_missing", _("Send a token in the header “Authorization: Bearer …”. You make one in the portal, under your account."))
        try:
            grant = tokens.authenticate(secret, address=address_of(request))
        except tokens.Unauthorised as refused:
            if not ratelimit.consume(request, app=_LIMITS, action="api_token_failed", limit_get=True):
                raise ApiError(429, "too_many_failures", _("There were too many wrong tokens from your network."), retry_after=_FAILURES_SECONDS) from None
            tokens.record_refusal(secret, code=refused.code)
            raise ApiError(401, refused.code, refused.message) from None
        if not ratelimit.consume(request, app=_LIMITS, action="api", key=str(grant.token.key), limit_get=True):
            raise ApiError(429, "too_many_requests", _("There were too many requests with this token."), retry_after=_REQUESTS_SECONDS)
        request.user = grant.user
        audit.add_to_origin(token=grant.token)
        if self.scope not in grant.scopes:
            raise ApiError(403, "scope", _("This needs a token with the scope “%(scope)s”, of a person who may do that.") % {"scope": self.scope.value})
        return grant


def _of(scope: Scope) -> dict[str, Any]:
    return {"auth": Bearer(scope), "openapi_extra": {"x-scope": scope.value}}


# What an endpoint is declared with: @router.get("…", **READ, …)
READ, POWER, CLASSES, ADMIN = (_of(scope) for scope in Scope)


def bearer_of(request: HttpRequest) -> User:
    """The person for whom an authorised request speaks."""
    grant: tokens.Grant = request.auth  # type: ignore[attr-defined]  # set by ninja
    return grant.user
