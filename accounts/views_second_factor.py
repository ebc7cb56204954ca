"""The pages of the second factor, where they differ from those of allauth."""

from typing import Any

from allauth.mfa.adapter import get_adapter
from allauth.mfa.base.views import AuthenticateView, IndexView
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.views import ActivateTOTPView
from allauth.mfa.webauthn.views import AddWebAuthnView, RemoveWebAuthnView
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.decorators import method_decorator

from .http import person
from .policies import FACTORS, must_have_second_factor
from .reauthentication import asked_again
from .services.second_factors import passkey_refusal


class SecondFactors(IndexView):  # type: ignore[misc]  # allauth has no types
    """What is set up, and whether it has to be."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        user, has_one = person(self.request), any(factor in context["authenticators"] for factor in FACTORS)
        return context | {"has_one": has_one, "must_have_one": must_have_second_factor(user), "no_passkey": passkey_refusal(user)}


class SecondStep(AuthenticateView):  # type: ignore[misc]
    """Signing in: asks for what the person has."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        kinds = set(Authenticator.objects.filter(user=self.stage.login.user).values_list("type", flat=True))
        has_key = Authenticator.Type.WEBAUTHN in kinds and self.webauthn_form is not None  # which it is where no keys are taken
        return context | {"has_app": Authenticator.Type.TOTP in kinds, "has_key": has_key}


@method_decorator(asked_again, name="dispatch")
class SetUpApp(ActivateTOTPView):  # type: ignore[misc]
    pass


@method_decorator(asked_again, name="dispatch")
class AddKey(AddWebAuthnView):  # type: ignore[misc]
    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        return context | {"no_passkey": passkey_refusal(person(self.request))}


class RemoveKey(RemoveWebAuthnView):  # type: ignore[misc]
    """A key that its person must keep is kept, as an app is."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        key = self.get_queryset().filter(pk=kwargs["pk"]).first() if request.user.is_authenticated else None
        if key is not None and not get_adapter().can_delete_authenticator(key):
            messages.error(request, str(get_adapter().error_messages["cannot_delete_authenticator"]))
            return redirect("mfa_index")
        return super().dispatch(request, *args, **kwargs)  # type: ignore[no-any-return]


second_factors = SecondFactors.as_view()
second_step = SecondStep.as_view()
set_up_app = SetUpApp.as_view()
add_key = AddKey.as_view()
remove_key = RemoveKey.as_view()
