"""Limits of what a person may have outside classes, held where they ask, where staff approve and where a machine grows."""

from django.utils.translation import gettext as _

from accounts.models import User
from machines.models import Machine
from machines.selectors.quotas import Quota, counted_sizes, quota_of

from .refusal import Refused


def hold(user: User) -> User:
    """Lock the person, so that of two wishes for the last room one is granted, and return the row as it is now. Inside
    a transaction only; requests are locked before people, and people before machines."""
    return User.objects.held().get(pk=user.pk)


def check(user: User, *, acting_user: User, machines: int = 1, cores: int, memory_mib: int) -> None:
    """Raise Refused where so much more than `user`, whom the caller holds, has now is beyond a limit of theirs."""
    _check(quota_of(user), user, acting_user=acting_user, machines=machines, cores=cores, memory_mib=memory_mib)


def check_growth(machine: Machine, *, acting_user: User | None, cores: int, memory_mib: int) -> None:
    """The same for a machine that gets another size; what becomes smaller is never refused. Holds the owner, so call it
    before the machine is locked."""
    if machine.owner is None or acting_user is None:
        return
    owner = hold(machine.owner)
    sizes = counted_sizes(owner)
    if machine.pk not in sizes:
        return
    has_cores, has_memory_mib = sizes[machine.pk]
    _check(quota_of(owner, sizes), owner, acting_user=acting_user, machines=0, cores=cores - has_cores, memory_mib=memory_mib - has_memory_mib)


def _check(quota: Quota, user: User, *, acting_user: User, machines: int, cores: int, memory_mib: int) -> None:
    over = quota.exceeded_by(machines=machines, cores=cores, memory_mib=memory_mib)
    if not over:
        return
    have = _(" and ").join(str(share) for share in over)
    if acting_user.pk != user.pk:
        message = _("This is more than %(person)s may have: %(have)s are used. Raise the limit on the person's page in the admin first, or say no.")
    elif quota.machines in over:
        message = _("This is more than you may have: you use %(have)s. Tell staff which machine you do not need any more, or ask them for a higher limit.")
    else:
        message = _("This is more than you may have: you use %(have)s. Choose a smaller size, or ask staff for a higher limit.")
    raise Refused(message % {"person": user, "have": have}, code="quota")
