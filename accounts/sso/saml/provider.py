"""allauth's provider, which takes no assertion twice, none for anybody else, and nobody without a lasting id."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialLogin
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.saml.provider import SAMLProvider
from django.core.cache import cache
from django.http import HttpRequest
from django.utils.translation import gettext as _
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.xml_utils import OneLogin_Saml2_XML as Xml

from accounts.sso import claims
from accounts.sso.errors import SignInRefused, untrustworthy

_REMEMBERED = 3600  # seconds: longer than assertions are good for
_ASSERTION = "/samlp:Response/saml:Assertion"


class Provider(SAMLProvider):  # type: ignore[misc]  # allauth has no types
    def get_redirect_from_request_kwargs(self, request: HttpRequest) -> dict[str, Any]:
        kwargs: dict[str, Any] = super().get_redirect_from_request_kwargs(request)
        return kwargs | {"process": AuthProcess.CONNECT if kwargs["process"] == AuthProcess.CONNECT else AuthProcess.LOGIN}

    def sociallogin_from_response(self, request: HttpRequest, response: Any) -> SocialLogin:
        self._check(response)
        return super().sociallogin_from_response(request, response)

    def _check(self, auth: Any) -> None:
        """What the library leaves open: an assertion without audience or without the request it answers counts for it
        everywhere, and only the response around it, which nobody signed, says which request that is."""
        document = Xml.to_etree(auth.get_last_response_xml())
        if not Xml.query(document, f"{_ASSERTION}/saml:Conditions/saml:AudienceRestriction/saml:Audience"):
            raise untrustworthy(self, "the assertion names no audience")
        confirmations = Xml.query(document, f"{_ASSERTION}/saml:Subject/saml:SubjectConfirmation/saml:SubjectConfirmationData")
        answered = {confirmation.get("InResponseTo") for confirmation in confirmations}
        if answered != {auth.get_last_response_in_response_to()}:
            raise untrustworthy(self, "the assertion does not say which request it answers")
        if not cache.add(f"sso:{self.sub_id}:assertion:{auth.get_last_assertion_id()}", True, _REMEMBERED):
            raise untrustworthy(self, "the assertion was used before")

    def extract_uid(self, data: Any) -> str:
        """The attribute that is configured, otherwise a persistent NameID. Any other NameID may be another one, or
        somebody else's, tomorrow."""
        if uid := self._extract(data).get("uid"):
            return claims.uid(self, uid)
        if data.get_nameid() and data.get_nameid_format() == Constants.NAMEID_PERSISTENT:
            return claims.uid(self, data.get_nameid())
        raise SignInRefused(
            _("%(system)s did not say who you are in a way that lasts. Tell the people who run the portal.") % {"system": self},
            "neither the attribute of the id nor a persistent NameID came",
        )

    def extract_extra_data(self, data: Any) -> dict[str, Any]:
        fields = self._extract(data)
        name = fields.get("username") or fields.get("email") or self.extract_uid(data)
        return {"name": claims.name(name), "groups": claims.groups(data.get_attributes().get(self.app.settings["groups"]))}

    def extract_email_addresses(self, data: Any) -> list[EmailAddress]:
        """Not verified but by the domains of the settings: an identity provider passes on what it was told."""
        email = self._extract(data).get("email")
        return [EmailAddress(email=email, verified=False, primary=True)] if email else []


provider_classes = [Provider]
