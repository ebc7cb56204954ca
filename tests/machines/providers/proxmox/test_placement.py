"""Where machines go, whatever the cluster looks like."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines.providers.errors import NoCapacity, TemplateMissing
from machines.providers.proxmox.placement import RECENT_SECONDS, SPARE_DISK_MIB, Ledger, Source, choose_node, choose_source, choose_storage
from machines.providers.proxmox.resources import NodeLine, StorageLine

NAMES = st.sampled_from(string.ascii_lowercase[:6])
MEMORY = st.integers(0, 100_000)
NODES = st.dictionaries(NAMES, st.tuples(st.booleans(), st.none() | MEMORY)).map(
    lambda found: {name: NodeLine(name, online, 8, 100_000, free) for name, (online, free) in found.items()}
)
SOURCES = st.lists(st.builds(Source, st.integers(9000, 9003), NAMES, st.booleans()), max_size=5)


@given(NODES, SOURCES, MEMORY, st.sets(NAMES), st.dictionaries(NAMES, MEMORY), MEMORY)
def test_a_place_is_one_that_can_be(
    nodes: dict[str, NodeLine], sources: list[Source], memory: int, allowed: set[str], promised: dict[str, int], reserve: int
) -> None:
    try:
        place = choose_source(sources, nodes, memory, allowed=allowed, promised=promised, reserve_mib=reserve)
    except TemplateMissing:
        assert not sources
        return
    except NoCapacity as error:
        assert error.message.endswith(".")
        fit = {source.node for source in sources if source.node in nodes and nodes[source.node].online}
        for name in fit:
            free = nodes[name].free_mib
            assert (allowed and name not in allowed) or (free is not None and free - reserve - promised.get(name, 0) < memory)
        return
    node = nodes[place.node]
    assert place.source in sources
    assert node.online and nodes[place.source.node].online
    assert not allowed or place.node in allowed
    assert place.source.shared or place.target == ""
    assert place.target in ("", place.node)
    if node.free_mib is not None:
        assert node.free_mib - reserve - promised.get(place.node, 0) >= memory


def test_machines_that_are_off_send_others_elsewhere_and_fill_no_node() -> None:
    nodes = {name: NodeLine(name, True, 8, 32_000, 20_000) for name in "ab"}
    assert choose_node(nodes, 4000, reachable=nodes) == "a"
    assert choose_node(nodes, 4000, reachable=nodes, expected={"a": 4000}) == "b"
    assert choose_node(nodes, 4000, reachable=nodes, expected={"a": 40_000, "b": 30_000}) == "b"


@given(
    st.lists(st.builds(StorageLine, NAMES, NAMES, st.sampled_from(["dir", "lvmthin"]), st.booleans(), st.booleans(), st.just(frozenset({"images"})), MEMORY)),
    MEMORY,
)
def test_a_storage_is_active_and_has_room(storages: list[StorageLine], need: int) -> None:
    try:
        name = choose_storage(storages, "a", "images", need)
    except NoCapacity as error:
        assert error.message.endswith(".")
        assert not [line for line in storages if line.node == "a" and line.active and line.free_mib >= need + SPARE_DISK_MIB]
        return
    chosen = [line for line in storages if line.node == "a" and line.name == name and line.active]
    assert max(line.free_mib for line in chosen) == max(line.free_mib for line in storages if line.node == "a" and line.active)


def test_the_node_with_the_most_memory_is_taken_and_what_was_placed_counts() -> None:
    nodes = {name: NodeLine(name, True, 8, 64_000, free) for name, free in (("a", 20_000), ("b", 30_000))}
    assert choose_node(nodes, 1000, reachable=nodes) == "b"
    assert choose_node(nodes, 1000, reachable=nodes, promised={"b": 15_000}) == "a"
    with pytest.raises(NoCapacity, match="no_capacity"):
        choose_node(nodes, 29_000, reachable=nodes)


def test_containers_go_where_snapshots_are_kept() -> None:
    def storage(name: str, kind: str, free: int) -> StorageLine:
        return StorageLine(name, "a", kind, False, True, frozenset({"rootdir"}), free)

    assert choose_storage([storage("large", "dir", 90_000), storage("thin", "lvmthin", 20_000)], "a", "rootdir", 8000) == "thin"
    assert choose_storage([storage("large", "dir", 90_000), storage("thin", "lvmthin", 2_000)], "a", "rootdir", 8000) == "large"


def test_what_was_placed_is_forgotten_when_the_figures_show_it() -> None:
    now = [0.0]
    ledger = Ledger(lambda: now[0])
    ledger.note("one", "a", 512)
    ledger.note("one", "a", 512)
    ledger.note("two", "a", 64)
    assert ledger.promised("one") == {"a": 1024}
    now[0] = RECENT_SECONDS + 1
    assert ledger.promised("one") == {}
