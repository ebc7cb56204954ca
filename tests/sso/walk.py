"""Somebody who signs in at the provider's page, without a browser."""

import html
import re
from urllib.parse import parse_qs, urlsplit

import requests
from django.urls import reverse

LOGIN = "/accounts/oidc/uni/login/"


def begin(client, **data):
    """Press the button; where the page leads on to."""
    page = client.post(LOGIN, data)
    assert page.status_code == 200, page
    return html.unescape(re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', page.content.decode())[1])


def at_provider(url, login="grace", **form):
    """Sign in there; the path that the provider leads back to."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(url, {"login": login, **form}, allow_redirects=False, timeout=5)
    parts = urlsplit(answer.headers["Location"])
    return f"{parts.path}?{parts.query}"


def sign_in(client, login="grace", **data):
    return client.get(at_provider(begin(client, **data), login))


def asked_for(url):
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def is_signed_in(client):
    return client.get(reverse("accounts:profile")).status_code == 200
