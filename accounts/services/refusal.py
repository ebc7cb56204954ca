"""Why something about people is not done."""


class Refusal(Exception):
    """`message` is a sentence for the person who asked."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class PersonRefused(Refusal):
    """Staff cannot do with a person what they asked for."""
