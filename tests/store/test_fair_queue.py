"""Shares by bytes: who asks for little does not wait behind who asks for much; each owner's own order stays."""

from __future__ import annotations

import threading

from supervisor.store.fair_queue import FairQueue

MIB = 1024 * 1024


def queue(**limits: int) -> FairQueue[str]:
    return FairQueue(**{"max_items": 256, "max_bytes": 512 * 1024, **limits})


def take(q: FairQueue[str]) -> list[str]:
    return q.take(lambda item: item == "last")


def test_a_small_one_goes_before_what_others_piled_up() -> None:
    q = queue()
    for n in range(72):
        q.put(f"big{n}", owner="flooder", size=MIB)
    assert take(q) == ["big0"]
    q.put("small", owner="other", size=10)
    assert take(q) == ["small"]
    assert take(q) == ["big1"]


def test_equal_shares_of_the_bytes_and_each_ones_own_order() -> None:
    q = queue()
    for n in range(100):
        q.put(f"a{n}", owner="a", size=40_000)
        q.put(f"b{n}", owner="b", size=80_000)
    got = [item for _ in range(12) for item in take(q)]
    assert [item for item in got if item[0] == "a"] == [f"a{n}" for n in range(sum(i[0] == "a" for i in got))]
    assert [item for item in got if item[0] == "b"] == [f"b{n}" for n in range(sum(i[0] == "b" for i in got))]
    size = {kind: sum(item[0] == kind for item in got) for kind in "ab"}
    assert 1.7 < size["a"] / size["b"] < 2.1


def test_the_daemons_own_goes_first_and_does_not_shut_out_the_others() -> None:
    q = queue(max_items=100)
    for n in range(3):
        q.put(f"a{n}", owner="a", size=100)
    for n in range(1000):
        q.put(f"own{n}", owner=None, size=100)
    first = take(q)
    assert [item for item in first if item != "a0"] == [f"own{n}" for n in range(99)]
    assert first.index("a0") > 60


def test_nobody_saves_up() -> None:
    q = queue()
    for n in range(50):
        q.put(f"a{n}", owner="a", size=100_000)
    for _ in range(5):
        take(q)
    for n in range(50):
        q.put(f"b{n}", owner="b", size=100_000)
    got = [item for _ in range(4) for item in take(q)]
    assert abs(sum(i[0] == "a" for i in got) - sum(i[0] == "b" for i in got)) <= 2


def test_a_batch_is_bounded_and_never_empty() -> None:
    q = queue(max_items=3, max_bytes=1000)
    for item, size in (("x", 5000), ("a", 400), ("b", 400), ("c", 400), ("d", 0), ("e", 0), ("f", 0)):
        q.put(item, owner="one", size=size)
    assert [take(q) for _ in range(4)] == [["x"], ["a", "b"], ["c", "d", "e"], ["f"]]


def test_the_last_is_the_last() -> None:
    q = queue()
    q.put("big", owner="a", size=MIB)
    q.put_last("last")
    assert [take(q), take(q)] == [["big"], ["last"]]


def test_who_waits_is_woken() -> None:
    q, got = queue(), list[list[str]]()
    thread = threading.Thread(target=lambda: got.append(take(q)))
    thread.start()
    q.put("x", owner=None, size=0)
    thread.join(10)
    assert got == [["x"]]
