"""Children that we did not start: those of whoever became us by exec, such as a container's entrypoint."""

from __future__ import annotations

from supervisor.log import log
from supervisor.worker.badge import Badge
from supervisor.worker.launch import STATE_ID_VARIABLE
from supervisor.worker.procfs import ProcessStat, children, has_variable, read_stat


class ForeignChildren:
    """Make it before the first worker is spawned: who is our child then, without our mark, is foreign.

    Such a child may orphan others later, which come to us as the orphans of plugins do. Nothing tells for sure which is
    which: the environment may be cleared, a session left, a limit changed. A daemon without foreign children takes
    every orphan for a plugin's. One that had some, even if they are gone, takes only those that carry its mark or wear
    its badge: rather does it leave a plugin's process behind that got rid of both, than end a stranger's.
    """

    def __init__(self, state_id: str, badge: Badge | None = None) -> None:
        self._mark = f"{STATE_ID_VARIABLE}={state_id}".encode()
        self._badge = badge
        living = [child for pid in children() if (child := read_stat(pid)) and not child.is_dead]
        foreign = [child for child in living if not self._is_marked(child)]
        self._had_some = bool(foreign)
        if foreign:
            named = ", ".join(f"{child.pid} ({child.name})" for child in foreign)
            log.info("children.foreign", left_alone=named)

    def is_not_one(self, child: ProcessStat) -> bool:
        """Whether this child of ours is a plugin's, as far as that can be told."""
        return not self._had_some or self._is_marked(child)

    def _is_marked(self, child: ProcessStat) -> bool:
        return bool(has_variable(child.pid, self._mark)) or (self._badge is not None and self._badge.is_on(child.pid))
