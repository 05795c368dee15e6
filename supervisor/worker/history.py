"""What has become of one plugin's workers: crashes, restarts, the latest failure, and what follows from it."""

from __future__ import annotations

import random

import trio

from supervisor.core.errors import SupervisorError
from supervisor.worker.backoff import Verdict, after_crash, after_shortage, is_content
from supervisor.worker.crash import Reason
from supervisor.worker.ending import Ending, activation_failure
from supervisor.worker.view import Wish


class History:
    """Counts begin anew when a worker is wanted; `restarts` counts since the daemon began."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._unproven = True
        """No life has come up since it was wanted."""
        self._next_start: float | None = None
        self._shortages = 0
        """In a row."""
        self.restarts = 0
        self.crashes = 0
        """In a row; stable running ends the row."""
        self.failure: SupervisorError | None = None
        """Of the latest attempt, if it failed (ActivationFailed); or why one on trial has no other life
        (FailedPrecondition)."""
        self.reason: Reason | None = None
        """Of the latest crash."""
        self.gave_up = False
        self.finished: str | None = None
        """How it ended by itself, where the restart policy is content with that."""

    @property
    def next_start_in_s(self) -> float | None:
        return None if self._next_start is None else max(0.0, self._next_start - trio.current_time())

    def begin(self, *, up: bool) -> None:
        """It is wanted, by somebody who has seen what was before; `up`: one takes calls already."""
        self.crashes = 0
        self.failure = self.reason = self.finished = None
        self._shortages = 0
        self.gave_up = False
        self._unproven = not up

    def leave(self) -> None:
        """It is not wanted any more: that counts from now on, and not how it ended before."""
        self.gave_up, self.finished = False, None

    def came_up(self) -> None:
        self.failure = None
        self._unproven = False

    def is_done(self, wish: Wish, ending: Ending) -> bool:
        """Whether that was the end it was made for."""
        spec = wish.plugin.manifest.worker
        return ending.crash is not None and is_content(spec, ending.crash, ending.exit_code)

    def note_done(self, ending: Ending) -> None:
        self.failure = None
        self.finished = ending.cause

    def note_crash(self, wish: Wish, ending: Ending, *, wanted: bool, renewed: bool, on_trial: bool = False) -> Verdict:
        """Count it, and say what follows: nothing if it is not `wanted` any more, a start at once if wanted anew; a
        worker `on_trial` has no other try."""
        verdict = Verdict(crashes=1, wait_s=None) if on_trial else self._judge(wish, ending)
        self.crashes, self.failure = verdict.crashes, activation_failure(wish.plugin, ending)
        self.reason = ending.crash.reason if ending.crash else None
        if not wanted or renewed:
            verdict = Verdict(crashes=verdict.crashes, wait_s=0.0 if wanted else None)
        self.gave_up = wanted and verdict.wait_s is None
        if verdict.wait_s is not None:
            self.restarts += 1
            self._next_start = trio.current_time() + verdict.wait_s
        return verdict

    def _judge(self, wish: Wish, ending: Ending) -> Verdict:
        policy, spread = wish.plugin.manifest.worker.restart, self._dice.uniform(-1, 1)
        first_try = self._unproven and self.crashes == self._shortages == 0 and ending.ran_s is None
        if wish.first_try_only and first_try:
            return Verdict(crashes=1, wait_s=None)
        if ending.crash and ending.crash.reason is Reason.PACKAGE_CHANGED:
            return Verdict(crashes=self.crashes + 1, wait_s=None)  # whatever the policy: files do not mend by waiting
        self._shortages = self._shortages + 1 if ending.crash and ending.crash.passing else 0
        if self._shortages:
            return after_shortage(policy, crashes=self.crashes, times=self._shortages, spread=spread)
        return after_crash(policy, crashes=self.crashes, ran_s=ending.ran_s, spread=spread)
