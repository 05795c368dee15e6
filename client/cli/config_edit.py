"""pluginctl config edit: the configuration in an editor, back in as long as something is wrong with it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.cli.command import UsageError
from client.cli.config import verdict_text
from client.cli.output import Context, Declined
from client.cli.render import escaped
from client.errors import Conflict, FailedPrecondition, InvalidParams

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

    from supervisor.wire.results import ConfigInfo

_ENDING = (signal.SIGTERM, signal.SIGHUP)


def edit(context: Context, plugin: str) -> ConfigInfo | None:
    """The configuration as it is set then; None if nothing was changed. Secrets are masked: left so, they stay.

    Raises:
        UsageError: there is no terminal for an editor.
        Declined: something is wrong with it, and nobody wants to put it right.
    """
    if context.json or not _has_terminal():
        why = "with --json there is none" if context.json else "stdin and stdout are none"
        raise UsageError(
            f"an editor needs a terminal, and {why}", "`pluginctl config set KEY --file FILE` sets the whole"
        )
    info = context.client.plugins.config_get(plugin)
    before = json.dumps(info["config"], indent=2, ensure_ascii=False) + "\n"
    # A directory of our own, so that what an editor leaves beside the file is gone with it.
    with _ended_in_order(), tempfile.TemporaryDirectory(prefix="pluginctl-") as directory:
        path = Path(directory) / f"{info['revision']}.json"
        path.touch(mode=0o600)
        path.write_text(before, encoding="utf-8")
        revision = info["revision"]
        while True:
            _run_editor(path)
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
            if text == before:
                return None
            try:
                return _set(context, plugin, text, revision)
            except _Wrong as wrong:
                problem = str(wrong)
            except Conflict as conflict:
                problem = escaped(conflict.message)
                revision = context.client.plugins.config_get(plugin)["revision"]
            context.note(problem)
            context.confirm("Edit it again?", yes=False, about={"problem": problem})


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """What asks us to end takes the copy of the configuration with it."""
    before = {number: signal.signal(number, _end) for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


class _Wrong(Exception):
    """What is wrong with the text; it may be put right."""


def _set(context: Context, plugin: str, text: str, revision: int) -> ConfigInfo:
    try:
        config: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Wrong(f"this is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise _Wrong("a configuration is a table of names and values: { … }")
    plugins = context.client.plugins
    verdict = plugins.config_test(plugin, config)
    if not verdict["ok"]:
        raise _Wrong(verdict_text(plugin, verdict))
    try:
        return plugins.config_set(plugin, config, expected_revision=revision)
    except InvalidParams as error:
        raise _Wrong(escaped(error.message, lines=True)) from None


def _run_editor(path: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        done = subprocess.run([*shlex.split(editor), str(path)], check=False)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise FailedPrecondition(f"cannot start the editor {editor!r}: {why}; set EDITOR to another one") from None
    if done.returncode:
        raise Declined(f"the editor ended with exit code {done.returncode}: nothing was changed")
