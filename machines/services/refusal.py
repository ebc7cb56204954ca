"""Why a service says no, in words for the person who asked."""


class Refused(Exception):
    """`message` is a translated sentence or two: what is, and what can be done. `code` is short
    and stable; views answer 409 for it and lose nothing the person typed."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.message, self.code = message, code
