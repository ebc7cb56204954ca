"""Talking to the API with a token."""

import json
from datetime import timedelta
from typing import Any

from django.test import Client
from django.utils import timezone

from accounts.models import Scope, User
from accounts.services import tokens

API = "/api/v1"


def make_token(user: User, *scopes: Scope, name: str = "script") -> str:
    """The secret of a new token of this person with these scopes, or with all they are offered."""
    _token, secret = tokens.make(user, name=name, scopes=scopes or tokens.offered_scopes(user), expires_at=timezone.now() + timedelta(days=1))
    return secret


class Program:
    """A client of the API. It has no cookies, and CSRF is checked."""

    def __init__(self, secret: str | None) -> None:
        self.client = Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {secret}"} if secret is not None else None)

    def ask(self, method: str, path: str, data: Any = None, **extra: Any) -> Any:
        if method == "get":
            return self.client.get(f"{API}/{path}", data, **extra)
        return self.client.generic(
            method.upper(), f"{API}/{path}", b"" if data is None else json.dumps(data, default=str).encode(), content_type="application/json", **extra
        )

    def get(self, path: str, data: Any = None, **extra: Any) -> Any:
        return self.ask("get", path, data, **extra)

    def post(self, path: str, data: Any = None, **extra: Any) -> Any:
        return self.ask("post", path, data, **extra)
