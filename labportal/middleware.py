"""What belongs to every answer: the feature policy, and how htmx is told of messages and sign-in."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.messages import get_messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url
from django_htmx.http import HttpResponseClientRedirect, trigger_client_event
from django_htmx.middleware import HtmxDetails

from accounts.http import by_htmx

Answer = Callable[[HttpRequest], HttpResponse]

# The portal uses none of these; a page of it that was subverted gets none either.
_FEATURES = (
    "accelerometer", "autoplay", "camera", "display-capture", "geolocation", "gyroscope", "magnetometer",
    "microphone", "midi", "payment", "screen-wake-lock", "serial", "usb", "xr-spatial-tracking",
)  # fmt: skip
_OWN_FEATURES = ("clipboard-read", "clipboard-write", "fullscreen", "keyboard-map", "publickey-credentials-create", "publickey-credentials-get")
_PERMISSIONS = ", ".join([*(f"{feature}=()" for feature in _FEATURES), *(f"{feature}=(self)" for feature in _OWN_FEATURES)])


class FeaturePolicy:
    """Permissions-Policy on every answer, and nothing of a person's pages in a shared cache."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Permissions-Policy", _PERMISSIONS)
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        if getattr(request, "user", None) is not None and request.user.is_authenticated:
            response.headers.setdefault("Cache-Control", "private, no-store")
        return response


class HtmxAnswers:
    """An htmx request for one fragment gets no sign-in page in its place but is led to it; what
    `django.contrib.messages` holds after a click goes along as the event `portal:messages`."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not by_htmx(request):
            return response
        if isinstance(response, HttpResponseRedirect) and response.url.startswith(resolve_url(settings.LOGIN_URL)):
            here = HtmxDetails(request).current_url_abs_path
            return HttpResponseClientRedirect(here or settings.LOGIN_REDIRECT_URL)
        if request.method == "POST" and response.status_code not in (301, 302):
            said = [{"text": str(message), "level": message.level_tag} for message in get_messages(request)]
            if said:
                trigger_client_event(response, "portal:messages", {"messages": said})
        return response
