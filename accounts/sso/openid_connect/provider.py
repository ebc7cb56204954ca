"""allauth's provider with a nonce, and with nothing of the request in what the provider is asked for."""

import secrets
from typing import Any

from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from django.http import HttpRequest, HttpResponse

from accounts.sso import claims
from accounts.sso.openid_connect.views import Adapter


class Provider(OpenIDConnectProvider):  # type: ignore[misc]  # allauth has no types
    pkce_enabled_default = True
    oauth2_adapter_class = Adapter

    def redirect(self, request: HttpRequest, process: str, next_url: str | None = None, data: Any = None, **kwargs: Any) -> HttpResponse:
        nonce = secrets.token_urlsafe(24)
        asked = {**kwargs, "scope": self.get_scope(), "auth_params": {"nonce": nonce}}
        response: HttpResponse = super().redirect(request, process, next_url, data, nonce=nonce, **asked)
        return response

    def get_redirect_from_request_kwargs(self, request: HttpRequest) -> dict[str, Any]:
        kwargs: dict[str, Any] = super().get_redirect_from_request_kwargs(request)
        kwargs.pop("scope", None)
        kwargs.pop("auth_params", None)
        return kwargs | {"process": AuthProcess.CONNECT if kwargs["process"] == AuthProcess.CONNECT else AuthProcess.LOGIN}

    def extract_uid(self, data: dict[str, Any]) -> str:
        return claims.uid(self, data["sub"])

    def extract_extra_data(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"name": claims.name(data.get("preferred_username") or data["sub"]), "groups": claims.groups(claims.at(data, self.app.settings["groups"]))}


provider_classes = [Provider]
