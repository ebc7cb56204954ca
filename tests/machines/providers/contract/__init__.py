"""What every provider promises, as tests. A subclass says how to connect and which template to take.

    class TestMyProvider(ProviderContract):
        @pytest.fixture(scope="class")
        @classmethod
        def connect(cls): return lambda: MyProvider(settings)

        @pytest.fixture(scope="class")
        @classmethod
        def template(cls): return "debian-12"

The template's guest must take its user, password, key and host name from the seed, answer SSH
and obey the power button. Tests that need a booted guest share one machine, `booted`; each
puts it into the state it needs, so they run in any order.
"""

from .extras import Extras
from .guests import Guests
from .ownership import Ownership
from .power import PowerAndDestroying


class ProviderContract(Ownership, PowerAndDestroying, Guests, Extras):
    """All of it."""
