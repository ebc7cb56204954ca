"""How pages show classes."""

import re
from functools import lru_cache

import qrcode
from django import template
from django.utils.safestring import SafeString, mark_safe
from qrcode.image.svg import SvgPathImage

from classes.models import Invite
from classes.services import invites

register = template.Library()


@register.simple_tag
@lru_cache(maxsize=64)
def qr(text: str) -> SafeString:
    """`text` as a QR code, drawn as SVG without inline styles. Give it a name beside it."""
    code = qrcode.QRCode(error_correction=qrcode.constants.ERROR_CORRECT_M, border=4)
    code.add_data(text)
    drawn: str = code.make_image(image_factory=SvgPathImage).to_string(encoding="unicode")
    # It states its size in millimetres; the page's style sheet does that.
    sized = re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg class="qr" aria-hidden="true" focusable="false" \1>', drawn)
    return mark_safe(sized.replace("svg:", ""))  # noqa: S308 - modules of a QR code, no text of anybody


@register.filter
def spoken(invite: Invite) -> str:
    """The code as people type it."""
    return invites.spoken(invite)


@register.filter
def closed(invite: Invite) -> str:
    """Why nobody can join by it now; empty while it is open."""
    refused = invites.why_closed(invite)
    return refused.message if refused else ""
