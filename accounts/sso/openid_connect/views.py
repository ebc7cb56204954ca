"""allauth's views of OpenID Connect with every token checked, and a page of ours for whatever goes wrong."""

from typing import Any

from allauth.socialaccount.models import SocialLogin, SocialToken
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET, require_http_methods

from accounts.sso.errors import untrustworthy
from accounts.sso.openid_connect import server
from accounts.sso.pages import begins, ends

_TEXTS = ("preferred_username", "name", "given_name", "family_name", "email")


class Adapter(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]  # allauth has no types
    expires_in_key = ""  # of a token that is not kept
    nonce = ""

    @property
    def openid_config(self) -> dict[str, Any]:
        return server.configuration(self.get_provider())

    def complete_login(self, request: HttpRequest, app: Any, token: SocialToken, **kwargs: Any) -> SocialLogin:
        provider = self.get_provider()
        id_token = kwargs["response"].get("id_token")
        if not isinstance(id_token, str):
            raise untrustworthy(provider, "there is no id_token")
        claims = server.verified(provider, id_token, nonce=self.nonce)
        if endpoint := self.openid_config.get("userinfo_endpoint"):
            told = server.fetch(provider, endpoint, headers={"Authorization": f"Bearer {token.token}"})
            if told.get("sub") != claims["sub"]:
                raise untrustworthy(provider, "userinfo is of somebody else")
            claims = told | claims
        claims |= {name: "" for name in _TEXTS if not isinstance(claims.get(name), str)}
        claims["email_verified"] = claims.get("email_verified") in (True, "true")  # "false" is text, too
        return provider.sociallogin_from_response(request, claims)


class Callback(OAuth2CallbackView):  # type: ignore[misc]
    def _get_state(self, request: HttpRequest, provider: Any) -> tuple[dict[str, Any] | None, HttpResponse | None]:
        state, response = super()._get_state(request, provider)
        self.adapter.nonce = (state or {}).get("nonce", "")
        return state, response


@require_http_methods(["GET", "POST"])
@begins
def login(request: HttpRequest, provider_id: str) -> HttpResponse:
    response: HttpResponse = OAuth2LoginView.adapter_view(Adapter(request, provider_id))(request)
    return response


@require_GET
@ends
def callback(request: HttpRequest, provider_id: str) -> HttpResponse:
    response: HttpResponse = Callback.adapter_view(Adapter(request, provider_id))(request)
    return response
