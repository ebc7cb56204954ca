"""A simulated cluster: no machine is real, all else behaves. For demonstrations, load and fault tests.

`python -m machines.providers.simulator` is the cluster, `SimulatorProvider` drives it,
`SimulatorControl` makes things go wrong there.
"""

from .client import SimulatorProvider
from .control import SimulatorControl
from .faults import FaultKind

__all__ = ["FaultKind", "SimulatorControl", "SimulatorProvider"]
