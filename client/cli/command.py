"""A command of pluginctl as a value, and the parser that is built for the one in use."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping

from client.cli.output import Context

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import NoReturn

Options = argparse.Namespace
Run = Callable[[Context, Options], "int | None"]
"""Carry it out; the exit code, None being 0."""


class UsageError(Exception):
    """Wrong words on the command line. `usage` says the right ones, `details` tell programs what it is about."""

    def __init__(self, message: str, usage: str = "", details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.usage = usage
        self.details = details or {}


class Argument:
    """One `add_argument` call, kept until its command is the one in use."""

    __slots__ = ("flags", "options")

    def __init__(self, *flags: str, **options: object) -> None:
        self.flags = flags
        self.options = options


class Command:
    __slots__ = ("arguments", "example", "run", "summary")

    def __init__(self, run: Run, summary: str, example: str, *arguments: Argument) -> None:
        self.run = run
        self.summary = summary
        self.example = example
        self.arguments = arguments


Commands = Mapping[str, Command]
STATUSES = ("installed", "ready", "disabled", "error", "upgrade_pending", "uninstalled")
PHASES = ("stopped", "starting", "running", "stopping", "backoff")
LEVELS = ("debug", "info", "warning", "error", "critical")


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number of the command line, within these bounds."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, not {text!r}")
        return value

    return read


def since(text: str, option: str = "--since") -> int:
    """The instant, in UTC ms, that the value of an option names.

    Raises:
        UsageError: it names none.
    """
    from client.cli.render import now_ms, parse_instant

    try:
        return parse_instant(text, now_ms())
    except (ValueError, OverflowError):
        raise UsageError(f"{option} {text!r} is neither a span such as 10m nor a date and time") from None


def seconds(text: str) -> float:
    """A span of time of the command line, above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 366 * 86_400:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text!r}")
    return value


def span(text: str) -> float:
    """A span of time of the command line in seconds, as in `60s`, `10m`, `1h30m` or `45`."""
    from client.cli.render import parse_span

    found = parse_span(text)
    try:
        return seconds(text if found is None else str(found))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"must be a time such as 30s or 5m, above 0, not {text!r}") from None


PLUGIN = Argument("plugin", metavar="KEY", help="the plugin's key or id")
PLUGINS = Argument(
    "plugins", metavar="KEY", nargs="+", help="a plugin's key or id; several, or a pattern such as 'acme.*'"
)
PSS = Argument("--pss", action="store_true", help="measure its share of shared memory too (PSS), which is dear")
JOB = Argument("job", metavar="JOB", help="the job, as <plugin>/<key> or by id")
YES = Argument("-y", "--yes", action="store_true", help="ask nothing")
_FORMS = {"wide": "wide (all columns, nothing cut)", "json": "json", "name": "name (one a line, for scripts)"}


def output(*forms: str) -> Argument:
    """`-o` of a list that can be shown in these forms."""
    told = ", ".join(_FORMS[form] for form in forms)
    return Argument("-o", "--output", choices=forms, metavar="FORM", help=told)


class Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that programs get their errors in one form."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message + self._suggestion(message), self.format_usage())

    def _print_message(self, message: str, file: object = None) -> None:
        """Unlike argparse's own it does not hide that help cannot be written."""
        sys.stdout.write(message)

    def _suggestion(self, message: str) -> str:
        """The word that was meant, where one is near."""
        import re

        from client.cli.meant import nearest, option_meant

        if choice := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            return nearest(choice[1], re.findall(r"[^', ]+", choice[2]))
        if (left := re.search(r"(?<=unrecognized arguments: )\S+", message)) is None:
            return ""
        if left[0].startswith("-"):
            choices = {flag: action.choices or () for flag, action in self._option_string_actions.items()}
            return option_meant(left[0].partition("=")[0], list(choices), choices)  # type: ignore[arg-type]
        takes = [action.metavar for action in self._get_positional_actions()]
        return f"; {self.prog} takes one KEY: run it once for each" if takes == ["KEY"] else ""


def terminal_columns() -> int:
    """For help: 80 where nobody says how wide the terminal is, and 40 at least."""
    # Without a width, argparse imports shutil to find one out, each time a parser is built.
    try:
        columns = int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size().columns or 80
    except (OSError, ValueError):
        columns = 80
    return max(columns, 40)


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, width=terminal_columns() - 2)


def parse(name: str, command: Command, words: list[str]) -> Options:
    """The options in what follows the command's name; `--socket` and `--json` may stand among them.

    Raises:
        UsageError: they are wrong.
    """
    parser = Parser(
        prog=f"pluginctl {name}",
        description=command.summary,
        epilog=f"example: pluginctl {command.example}",
        allow_abbrev=False,
        formatter_class=_formatter,
    )
    for argument in command.arguments:
        parser.add_argument(*argument.flags, **argument.options)  # type: ignore[arg-type]
    # Left out when not given, so that they do not hide what stood before the verb.
    hidden = argparse.SUPPRESS
    parser.add_argument("--json", action="store_true", default=hidden, help="print JSON, for programs")
    parser.add_argument("--socket", metavar="PATH", default=hidden, help="the daemon's socket")
    if not any("-o" in argument.flags for argument in command.arguments):
        parser.add_argument(
            "-o", "--output", choices=("json",), metavar="json", default=hidden, help="the same as --json"
        )
    # Otherwise what may be left out counts as left out as soon as an option stands before it. Slower, so not for all.
    mixed = any(argument.options.get("nargs") in {"?", "*", "+"} for argument in command.arguments)
    return parser.parse_intermixed_args(words) if mixed else parser.parse_args(words)
