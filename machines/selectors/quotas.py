"""What a person may have outside classes, and what of it is used."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.db.models import FilteredRelation, Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import RolePolicy, User
from machines.lifecycle import Kind, State
from machines.models import ACTIVE, Machine
from machines.selectors.display import memory

# Apps above add which machines count against nobody: those that a class shares out.
NOT_COUNTED: list[Callable[[], Q]] = []


@dataclass(frozen=True, slots=True)
class Share:
    """Of one thing that is limited: `limit` None is no limit. Memory is in MiB."""

    what: str  # machines, cores, memory_mib
    used: int
    limit: int | None

    def over_with(self, more: int) -> bool:
        return self.limit is not None and more > 0 and self.used + more > self.limit

    @property
    def shown(self) -> int:
        """For a bar, which cannot be longer than its whole."""
        return min(self.used, self.limit or 0)

    def __str__(self) -> str:
        """“3 of 4 machines”, or “3 machines” where there is no limit."""
        if self.what == "memory_mib":
            used, most = memory(self.used), memory(self.limit or 0)
            return _("%(used)s memory") % {"used": used} if self.limit is None else _("%(used)s of %(most)s memory") % {"used": used, "most": most}
        figures = {"used": self.used, "most": self.limit}
        count = self.used if self.limit is None else self.limit
        if self.what == "machines":
            words = ngettext("%(used)d machine", "%(used)d machines", count), ngettext("%(used)d of %(most)d machine", "%(used)d of %(most)d machines", count)
        else:
            words = ngettext("%(used)d core", "%(used)d cores", count), ngettext("%(used)d of %(most)d core", "%(used)d of %(most)d cores", count)
        return words[self.limit is not None] % figures


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of a person: their own, else those of their role, else none."""

    machines: Share
    cores: Share
    memory_mib: Share

    def __iter__(self) -> Iterator[Share]:
        return iter((self.machines, self.cores, self.memory_mib))

    @property
    def limited(self) -> list[Share]:
        return [share for share in self if share.limit is not None]

    def exceeded_by(self, *, machines: int, cores: int, memory_mib: int) -> list[Share]:
        """Those that so much more would go beyond."""
        more = ((self.machines, machines), (self.cores, cores), (self.memory_mib, memory_mib))
        return [share for share, wanted in more if share.over_with(wanted)]


def counted(user: User) -> Q:
    """Machines that count against this person: theirs, on or off, from the approval until they are deleted."""
    found = Q(owner=user) & ~Q(state=State.DESTROYED)
    for not_counted in NOT_COUNTED:
        found &= ~not_counted()
    return found


def counted_sizes(user: User) -> dict[int, tuple[int, int]]:
    """Cores and MiB of memory of each machine that counts, by its number. One that is about to grow has what it asked for:
    the work is done later, and what is left until then is nobody else's."""
    resizing = FilteredRelation("operations", condition=Q(operations__kind=Kind.RESIZE, operations__state__in=ACTIVE))  # at most one
    rows = Machine.objects.filter(counted(user)).annotate(resizing=resizing).order_by().values_list("pk", "cores", "memory_mib", "resizing__params")
    return {pk: (max(cores, (asked or {}).get("cores", 0)), max(memory_mib, (asked or {}).get("memory_mib", 0))) for pk, cores, memory_mib, asked in rows}


def quota_of(user: User, sizes: dict[int, tuple[int, int]] | None = None) -> Quota:
    """Two queries; one where the person has all limits of their own, and one less where the caller has read `sizes`."""
    sizes = counted_sizes(user) if sizes is None else sizes
    used = {"machines": len(sizes), "cores": sum(cores for cores, _memory in sizes.values()), "memory_mib": sum(memory for _cores, memory in sizes.values())}
    limits = {what: getattr(user, f"max_{what}") for what in used}
    if None in limits.values():
        rules = RolePolicy.objects.filter(role=user.role).first() or RolePolicy()
        limits = {what: getattr(rules, f"max_{what}") if limit is None else limit for what, limit in limits.items()}
    return Quota(**{what: Share(what, used[what], limits[what]) for what in used})
