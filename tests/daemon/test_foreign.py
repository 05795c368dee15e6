"""Whose our children are: the entrypoint's that became us by exec, or the plugins'."""

import resource

import pytest

from supervisor.daemon.foreign import ForeignChildren
from supervisor.worker.badge import Badge
from supervisor.worker.procfs import read_stat
from tests.daemon.processes import all_reaped, python, sleeping

ID = "f" * 32
MARK = {"PLUGIND_STATE_ID": ID}


@pytest.fixture(autouse=True)
def _reaped():
    with all_reaped():
        yield


@pytest.fixture
def at_start(monkeypatch):
    """What our children are when it is made: this process may have some that the tests know nothing of."""

    def made(*processes, badge=None):
        with monkeypatch.context() as patched:
            patched.setattr("supervisor.daemon.foreign.children", lambda: [it.pid for it in processes])
            return ForeignChildren(ID, badge)

    return made


def test_without_foreign_children_every_orphan_is_a_plugins(at_start):
    with sleeping(env={}) as bare, sleeping(env=MARK) as marked:
        for foreign in (at_start(), at_start(marked)):
            assert foreign.is_not_one(read_stat(bare.pid))
            assert foreign.is_not_one(read_stat(marked.pid))


def test_with_foreign_children_only_what_carries_our_mark(at_start):
    with sleeping(env={"PLUGIND_STATE_ID": "e" * 32}) as sidecar, sleeping(env={}) as bare, sleeping(env=MARK) as ours:
        foreign = at_start(sidecar, ours)
        assert not foreign.is_not_one(read_stat(sidecar.pid))
        assert not foreign.is_not_one(read_stat(bare.pid))
        assert foreign.is_not_one(read_stat(ours.pid))


def test_a_badge_tells_whose_it_is_without_an_environment(at_start):
    with sleeping(env={}) as sidecar, sleeping(env={}) as bare, sleeping(env={}) as ours:
        resource.prlimit(ours.pid, 10, (4711, 4711))
        foreign = at_start(sidecar, badge=Badge(4711, 5000))
        assert foreign.is_not_one(read_stat(ours.pid))
        assert not foreign.is_not_one(read_stat(bare.pid))


def test_they_are_foreign_also_when_they_are_gone(at_start):
    with sleeping(env={}) as orphan:
        with sleeping(env={}) as sidecar:
            foreign = at_start(sidecar)
        assert not foreign.is_not_one(read_stat(orphan.pid))


def test_who_is_dead_at_the_start_orphans_nobody(at_start):
    with python("") as zombie, sleeping(env={}) as orphan:
        while not read_stat(zombie.pid).is_dead:
            pass
        assert at_start(zombie).is_not_one(read_stat(orphan.pid))
