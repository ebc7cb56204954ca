"""What people change about themselves."""

from accounts.models import User


def change_profile(user: User, *, first_name: str, last_name: str, keyboard: str) -> None:
    user.first_name, user.last_name, user.keyboard = first_name, last_name, keyboard
    user.save(update_fields=["first_name", "last_name", "keyboard"])
