"""The one question that is asked of people who come by single sign-on."""

import time
from typing import Any

from allauth.socialaccount.models import SocialLogin
from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from accounts.models import User

from .adapter import person_of

_COUNTS = 600  # seconds that a sign-in waits for the answer: too short for the next person at this browser


class SecondAccountForm(forms.Form):
    """Whether to make an account although the address is somebody's here. The button is the answer, so it has no fields."""

    def __init__(self, *args: Any, sociallogin: SocialLogin, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sociallogin = sociallogin

    def try_save(self, request: HttpRequest) -> tuple[User | None, HttpResponse | None]:
        if time.time() - self.sociallogin.state["asked_at"] > _COUNTS:
            return None, redirect("account_login")
        user = person_of(self.sociallogin)
        if user is None:
            return None, redirect("account_inactive")
        self.sociallogin.user = user
        return user, None
