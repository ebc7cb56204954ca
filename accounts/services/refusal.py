"""Why staff cannot do with a person what they asked for."""


class PersonRefused(Exception):
    """`message` is a sentence for the person who asked."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
