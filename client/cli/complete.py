"""The hidden `pluginctl __complete WORDS…`: what the last of the words may become, for the scripts of `completion`.

A candidate a line, with a tab and a few words about it where there are any; `:files` and `:dirs` leave it to the shell.
Never an error: who presses Tab has not asked for one.
"""

from __future__ import annotations

import re

from client.cli.complete_words import after_first, complete_command
from client.cli.main import BARE, FIRST_WORDS, NOUNS, SHORT, _command, _verbs
from client.errors import SupervisorError

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from client.cli.complete_words import Candidates
    from client.cli.output import Context

_PLAIN = re.compile(r"[A-Za-z0-9@%+=:,./_-]+")
"""What stands on a command line as it is; a name that does not is not offered."""
GLOBAL = (("--json", "print JSON, for programs"), ("--socket", "the daemon's socket"), ("--help", "the commands"))


def complete(context: Context, words: list[str]) -> int:
    """Print the candidates; `words` are those behind `pluginctl`, up to the one that is being typed."""
    before, current, shown_from = after_first(words)
    lines = []
    try:
        for word, about in _candidates(context, before, current):
            if _fits(word, current):
                lines.append(f"{word[shown_from:]}\t{_one_line(about)}".rstrip("\t"))
    except (SupervisorError, OSError):
        pass  # Nobody answers, or not in time: what is known without the daemon stays.
    context.say("\n".join(lines))
    return 0


def _fits(word: str, current: str) -> bool:
    return word.startswith(":") or (word.startswith(current) and _PLAIN.fullmatch(word) is not None)


def _one_line(about: str) -> str:
    return "".join(c if c.isprintable() else " " for c in about)[:80]


def _candidates(context: Context, before: list[str], current: str) -> Iterable[tuple[str, str]]:
    while before and before[0].startswith("-"):
        option = before.pop(0)
        if option == "--socket":
            if not before:
                return [(":files", "")]
            context.socket = before.pop(0)
        elif option.startswith("--socket="):
            context.socket = option.partition("=")[2]
    if before[:1] == ["help"]:
        del before[0]
    if not before:
        return GLOBAL if current.startswith("-") else _first_words()
    return _of_command(context, before, current)


def _first_words() -> Candidates:
    named = {**dict.fromkeys([*SHORT, *FIRST_WORDS], ""), **NOUNS, "help": "of a command", "version": ""}
    return [*named.items()]


def _of_command(context: Context, before: list[str], current: str) -> Iterator[tuple[str, str]]:
    first, *rest = before
    verbs = FIRST_WORDS.get(first) or ({verb: f"{first} {verb}" for verb in _verbs(first)} if first in NOUNS else {})
    target = SHORT.get(first)
    if target is None and rest and (target := verbs.get(rest[0].replace("_", "-"))) is not None:
        del rest[0]
    if target is None:
        if not rest:
            yield from ((verb, "") for verb in verbs)
        if first not in BARE:
            return
        target = f"{first} {BARE[first]}"
    yield from complete_command(context, target, _command(*target.split()), rest, current)
