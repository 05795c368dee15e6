"""A run in words: its state, how far it is, why it failed. Pure."""

from __future__ import annotations

from client.cli.plain import to_json
from client.cli.render import cell, clock, duration, escaped, fields, shortened, when
from supervisor.core.cause import short_cause

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor.wire.results import ProgressInfo, RunInfo

UNDER_WAY = frozenset({"queued", "running"})
SHORT_ID = 8
"""Characters of a run's id on a terminal: commands take the beginning of one."""
_BAR = 20
_NOW_MS = 1000
_OVERDUE_MS = 5000
"""A retry that nothing holds is claimed within less."""


def run_text(run: RunInfo) -> str:
    """What became of it, as in `acme.weather/refresh: run 4f1c succeeded in 1.5s`."""
    text = f"{escaped(run['job'])}: run {escaped(run['id'])} {_state(run)}"
    if run["error"]:
        text += f"\n{escaped(run['error'], lines=True)}"
    if run["result"] is not None:
        text += f"\n{to_json(run['result'], indent=2)}"
    return text


def _state(run: RunInfo) -> str:
    text = cell(run["state"])
    if run["duration_ms"] is not None:
        text += f" in {duration(run['duration_ms'] / 1000)}"
    if run["waiting_for"]:
        text += f": {escaped(run['waiting_for'])}"
    return text


def run_details(run: RunInfo, now: int, *, colour: bool) -> str:
    """All of it, a line each."""
    pairs: dict[str, object] = {
        "run": run["id"],
        "job": run["job"],
        "state": run["state"],
        "waits for": run["waiting_for"],
        "progress": progress_text(run["progress"]),
        "trigger": run["trigger"],
        "attempt": run["attempt"],
        "due": _instant(run["due_ms"], now),
        "due times": run["times"] if run["times"] > 1 else None,
        "created": _instant(run["created_ms"], now),
        "started": _instant(run["started_ms"], now),
        "ended": _instant(run["finished_ms"], now),
        "took": None if run["duration_ms"] is None else duration(run["duration_ms"] / 1000),
        "exit code": run["exit_code"],
        "tried again": _tried_again(run["retry_at_ms"], now),
        "params": None if run["params"] is None else to_json(run["params"]),
    }
    told = {name: value for name, value in pairs.items() if value not in {None, ""}}
    text = fields(told, colour=colour)
    if run["error"]:
        text += f"\n\nerror:\n  {escaped(run['error'], lines=True).strip().replace(chr(10), f'{chr(10)}  ')}"
    if run["result"] is not None:
        text += f"\n\nresult:\n{to_json(run['result'], indent=2)}"
    return text


def _instant(ms: int | None, now: int) -> str | None:
    return None if ms is None else f"{clock(ms)} ({when(ms, now)})"


def _tried_again(ms: int | None, now: int) -> str | None:
    return None if ms is None else f"{clock(ms)} ({again(ms, now)})"


def again(ms: int, now: int) -> str:
    """When a run is tried again, as in `in 5m`. What is overdue waits until the job, or what holds it, is resumed."""
    if ms - now >= _NOW_MS:
        return when(ms, now)
    return "now" if now - ms < _OVERDUE_MS else "when resumed"


def last_word(run: RunInfo, now: int) -> str:
    """Why it failed and what comes next, how far it is, or what it waits for."""
    words = []
    if run["times"] > 1:
        words.append(f"{run['times']} times:")
    if run["error"]:
        words.append(short_cause(run["error"]))
    if run["retry_at_ms"] is not None:
        words.append(f"(again {again(run['retry_at_ms'], now)})")
    return " ".join(words) or progress_text(run["progress"]) or run["waiting_for"] or ""


def progress_text(progress: ProgressInfo | None) -> str:
    """As in `40 % copying files`."""
    if progress is None:
        return ""
    percent = None if progress["fraction"] is None else f"{progress['fraction']:.0%}".replace("%", " %")
    return " ".join(filter(None, (percent, progress["message"])))


def bar(run: RunInfo, columns: int) -> str:
    """As in `running [########            ] 40 % copying files`, at most so wide."""
    progress = run["progress"]
    if run["waiting_for"]:
        text = f"{run['state']}: {run['waiting_for']}"
    elif progress is None:
        text = f"{run['state']} …"
    elif progress["fraction"] is None:
        text = f"{run['state']} … {progress['message'] or ''}"
    else:
        filled = min(max(int(_BAR * progress["fraction"]), 0), _BAR)
        text = f"{run['state']} [{'#' * filled:<{_BAR}}] {progress_text(progress)}"
    return shortened(escaped(text.rstrip()), columns)


def short_ids(runs: Sequence[RunInfo], width: int | None) -> list[str]:
    """Their ids; on a terminal the beginnings, as long as they need to be to tell them apart."""
    ids = [run["id"] for run in runs]
    if width is None:
        return ids
    length = SHORT_ID
    while len({id_[:length] for id_ in ids}) < len(set(ids)):
        length += 1
    return [id_[:length] for id_ in ids]
