"""The fake cluster: fakepve with everything this package puts right."""

from fakepve import FakePve

from .access import AccessRules
from .consoles import ConsoleRules
from .containers import ContainerRules
from .inventory import InventoryRules
from .machines import MachineRules
from .tasks import TaskRules
from .transport import Transport


class FakeCluster(Transport, AccessRules, InventoryRules, ConsoleRules, ContainerRules, MachineRules, TaskRules, FakePve):
    """Real seconds are PVE seconds times `time_scale`; at 0 every task is done before its call returns."""
