"""What a wrong word was to mean: by its likeness, and by what other programs call it."""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ALIKE = 0.7
_LETTERS = 3
"""With fewer, everything is like something."""
MEANT: Mapping[str, str] = {
    **dict.fromkeys(("ls", "ps", "list-units"), "list"),
    **dict.fromkeys(("rm", "remove", "delete", "erase"), "uninstall"),
    **dict.fromkeys(("show", "get", "inspect", "cat"), "plugins get"),
    **dict.fromkeys(("is-enabled", "info"), "status"),
    **dict.fromkeys(("is-active", "is-failed"), "wait|status"),
    **dict.fromkeys(("exec", "invoke", "send"), "call"),
    **dict.fromkeys(("journal", "journalctl", "tail"), "logs"),
    **dict.fromkeys(("add", "apply", "create"), "install"),
    **dict.fromkeys(("update", "pull"), "upgrade"),
    **dict.fromkeys(("daemon-reload", "reload-or-restart", "reread"), "reload"),
    **dict.fromkeys(("undo", "downgrade"), "rollback"),
    **dict.fromkeys(("unmask", "reset-failed", "reenable"), "enable"),
    **dict.fromkeys(("kill", "shutdown", "down"), "stop"),
    **dict.fromkeys(("history", "timers", "list-timers", "next", "pause", "resume"), "jobs list"),
    **dict.fromkeys(("cancel", "retry"), "runs list"),
    **dict.fromkeys(("edit", "set", "settings"), "config edit"),
    "up": "start",
    "mask": "disable",
    "stats": "top",
    "init": "new",
    "lint": "check",
}
"""What the words of systemctl, docker, kubectl and supervisorctl are here."""
_MEANT_AFTER: Mapping[tuple[str, str], str] = {
    **dict.fromkeys(
        (("plugins", "describe"), ("plugins", "info"), ("plugins", "show"), ("plugins", "inspect")), "status"
    ),
    **dict.fromkeys((("jobs", "show"), ("jobs", "describe")), "get"),
    **dict.fromkeys((("runs", "get"), ("runs", "describe")), "show"),
    **dict.fromkeys((("daemon", "start"), ("daemon", "restart")), "`systemctl restart plugind` does that"),
}
"""Verbs that mean something else after this noun; in backquotes what is done by another program."""
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("-q", "--quiet"), ("-o", "name")),
    **dict.fromkeys(("-j",), ("--json",)),
    **dict.fromkeys(("--format", "--out"), ("-o",)),
    **dict.fromkeys(("--force", "--assume-yes"), ("--yes",)),
    **dict.fromkeys(("--follow", "--watch", "-w"), ("-f",)),
    **dict.fromkeys(("--lines", "--tail", "--limit", "--count"), ("-n",)),
}
"""The option that there is instead, and its value where it has to be this one."""


def nearest(word: str, known: Sequence[str], otherwise: str = "") -> str:
    """As in `; did you mean 'list'?`, if anything comes near."""
    import difflib

    bare = {name.strip("-"): name for name in known if len(name.strip("-")) >= _LETTERS}
    looked_for = word.strip("-")
    near = difflib.get_close_matches(looked_for, bare, n=1, cutoff=_ALIKE) if len(looked_for) >= _LETTERS else []
    return f"; did you mean {bare[near[0]]!r}?" if near else otherwise


def command_meant(word: str, known: Sequence[str], noun: str = "") -> str:
    """The command, or behind `noun` the verb; or all that are known."""
    meant = _MEANT_AFTER.get((noun, word)) or MEANT.get(word, "")
    if meant.startswith("`"):
        return f"; {meant}"
    found = [each for each in meant.split("|") if each.split()[:1] and each.split()[0] in known]
    if found:
        return f"; did you mean {' or '.join(map(repr, found))}?"
    return nearest(word, known, f"; known are {', '.join(sorted(known))}")


def option_meant(option: str, known: Sequence[str], values: Mapping[str, Sequence[str]]) -> str:
    """The option; `values` are those that some options choose from."""
    name, *value = _OPTIONS.get(option, ("",))
    if name in known and (not value or value[0] in values.get(name, ())):
        return f"; did you mean {' '.join([name, *value])!r}?"
    return nearest(option, known)
