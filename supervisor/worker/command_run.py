"""A job's command as a program to launch, and what its end means for the run. Pure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from supervisor.clock import from_ms
from supervisor.core.job import Run, RunOutcome, RunState
from supervisor.core.manifest import JobSpec
from supervisor.core.plugin import Plugin
from supervisor.worker.ending import Ending
from supervisor.worker.shutdown import Stage

MAX_PARAMS_BYTES: Final = 120_000
"""As JSON: Linux takes no variable of more than 128 KiB."""
_LAST_WORDS_LINES: Final = 5
_LAST_WORDS_CHARACTERS: Final = 1000


class CannotGive(ValueError):
    """The run's params do not fit into a variable."""


def as_program(plugin: Plugin, run: Run, spec: JobSpec, *, term_s: float) -> Plugin:
    """The plugin as if the command of its job were its worker: a program without RPC that only signals stop.

    So it is launched from the same package, with the same environment and limits. `term_s`: how long it is given after
    SIGTERM.

    Raises:
        CannotGive: the run's params.
    """
    worker = replace(
        plugin.manifest.worker,
        command=spec.command,
        transport="none",
        stop_timeout_s=term_s,
        stop_signal="SIGTERM",
        stop_command=(),
        ready=None,
        env={**plugin.manifest.worker.env, **_variables(run)},
    )
    return replace(plugin, manifest=replace(plugin.manifest, worker=worker))


def _variables(run: Run) -> dict[str, str]:
    variables = {
        "PLUGIND_RUN_ID": run.id,
        "PLUGIND_JOB": run.job_key,
        "PLUGIND_ATTEMPT": str(run.attempt),
        "PLUGIND_TRIGGER": str(run.trigger),
        "PLUGIND_DUE": from_ms(run.due_ms).isoformat(timespec="seconds"),
    }
    return variables if run.params is None else {**variables, "PLUGIND_PARAMS": as_json(run.params)}


def as_json(params: Any) -> str:
    """What a command gets of its run's params.

    Raises:
        CannotGive: they cannot be written so, or are too large.
    """
    try:
        text = json.dumps(params, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CannotGive(f"its params cannot be written as JSON for PLUGIND_PARAMS: {error}") from error
    if len(text) > MAX_PARAMS_BYTES:
        raise CannotGive(
            f"its params are {len(text)} bytes as JSON, and PLUGIND_PARAMS takes {MAX_PARAMS_BYTES}: "
            "put them into a file, and give its name"
        )
    return text


def ended(ending: Ending, out_of_time: bool, timeout_s: float) -> RunOutcome:
    """The outcome of a command that has been reaped, or never was a process. One that ends by itself at the last moment
    counts as that."""
    if ending.crash is None:
        how = "it ended after SIGTERM" if ending.stage is Stage.TERM else "it was killed"
        return stopped(out_of_time, timeout_s, how="it was not started yet" if ending.pid is None else how)
    if ending.exit_code == 0:
        return RunOutcome(state=RunState.SUCCEEDED, exit_code=0)
    words = _last_words(ending.last_words)
    error = f"{ending.cause}: {words}" if words else ending.cause
    return RunOutcome(state=RunState.FAILED, error=error, exit_code=ending.exit_code)


def stopped(out_of_time: bool, timeout_s: float, *, how: str) -> RunOutcome:
    """The outcome of one that we have stopped."""
    if out_of_time:
        return RunOutcome(state=RunState.TIMED_OUT, error=f"did not end within timeout_s = {timeout_s:g} s; {how}")
    return RunOutcome(state=RunState.CANCELLED, error=f"its plugin is not ready any more; {how}")


def _last_words(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-_LAST_WORDS_LINES:])[-_LAST_WORDS_CHARACTERS:]
