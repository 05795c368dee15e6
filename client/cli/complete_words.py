"""What may stand at a place of a command line: an option, or a value by what it is called in the help."""

from __future__ import annotations

from argparse import BooleanOptionalAction

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from client.cli.command import Argument, Command
    from client.cli.output import Context
    from client.sync_client import Client

Candidates = list[tuple[str, str]]
"""Each with a few words about it."""
_PATIENCE_S = 0.5
_RUNS = _KEYS = 100
_NO_VALUE = ("store_true", "store_false", "store_const", "count", BooleanOptionalAction)
_MANY = ("*", "+")


def after_first(words: Sequence[str]) -> tuple[list[str], str, int]:
    """The whole words, the one that is being typed, and where in it the shell's own word begins.

    bash takes `--type=job.*` apart at its `=`, and an opening quote is part of its word.
    """
    whole: list[str] = []
    joined = 0
    for number, word in enumerate(words):
        last = number == len(words) - 1
        if word == "=" and whole:
            whole[-1] += "="
            joined = len(whole[-1]) if last else -1
        elif joined == -1:
            joined = len(whole[-1]) if last else 0
            whole[-1] += word
        else:
            whole.append(word.lstrip("'\"") if last else word)
    current = whole.pop() if whole else ""
    return whole, current, max(joined, 0)


def complete_command(context: Context, target: str, command: Command, words: Sequence[str], current: str) -> Candidates:
    """`target`: its noun and verb; `words`: those behind it, before `current`."""
    line = _Line(context, target, command)
    for word in words:
        line.take(word)
    return line.candidates(current)


class _Line:
    """The words of one command, read as far as they are there. Wrong ones are passed over."""

    def __init__(self, context: Context, target: str, command: Command) -> None:
        self._context = context
        self._target = target
        arguments = command.arguments
        self._options = {flag: argument for argument in arguments for flag in argument.flags if flag[0] == "-"}
        self._positional = [argument for argument in arguments if argument.flags[0][0] != "-"]
        self._given: list[str] = []
        self._used: set[str] = set()
        self._open: str | None = None
        """An option that waits for its value."""
        self._only_values = False

    def take(self, word: str) -> None:
        if self._open is not None:
            self._set(self._open, word)
            self._open = None
        elif word == "--":
            self._only_values = True
        elif word.startswith("-") and len(word) > 1 and not self._only_values:
            self._take_option(word)
        else:
            self._given.append(word)

    def _take_option(self, word: str) -> None:
        flag, equals, value = word.partition("=")
        self._used.add(flag)
        if equals:
            self._set(flag, value)
        elif self._has_value(flag):
            self._open = flag

    def _has_value(self, flag: str) -> bool:
        if (argument := self._options.get(flag)) is not None:
            return argument.options.get("action") not in _NO_VALUE
        return flag in {"--socket", "-o", "--output"}

    def _set(self, flag: str, value: str) -> None:
        if flag == "--socket":
            self._context.socket = value

    def candidates(self, current: str) -> Candidates:
        if self._open is not None:
            return self._of_option(self._open)
        if current.startswith("-") and not self._only_values:
            flag, equals, _ = current.partition("=")
            return [(f"{flag}={word}", about) for word, about in self._of_option(flag)] if equals else self._flags()
        argument = self._next()
        return [] if argument is None else self._values(argument)

    def _next(self) -> Argument | None:
        place = len(self._given)
        if place < len(self._positional):
            return self._positional[place]
        many = self._positional and self._positional[-1].options.get("nargs") in _MANY
        return self._positional[-1] if many else None

    def _flags(self) -> Candidates:
        found = [("--json", "print JSON, for programs"), ("--socket", "the daemon's socket"), ("--help", "")]
        for flag, argument in self._options.items():
            names = [flag]
            if argument.options.get("action") is BooleanOptionalAction:
                names.append(f"--no-{flag.removeprefix('--')}")
            found += [(name, str(argument.options.get("help", ""))) for name in names]
        again = {flag for flag, argument in self._options.items() if argument.options.get("action") == "append"}
        return [(flag, about) for flag, about in found if flag not in self._used - again]

    def _of_option(self, flag: str) -> Candidates:
        argument = self._options.get(flag)
        if argument is not None:
            return self._values(argument)
        return {"--socket": [(":files", "")], "-o": [("json", "")], "--output": [("json", "")]}.get(flag, [])

    def _values(self, argument: Argument) -> Candidates:
        choices = argument.options.get("choices")
        if isinstance(choices, tuple | list):
            return [(str(choice), "") for choice in choices]
        kind = str(argument.options.get("metavar", ""))
        if kind in _LEFT_TO_SHELL:
            return [(_LEFT_TO_SHELL[kind], "")]
        ask = _ASK.get(_KIND_OF.get((self._target, argument.flags[0]), kind))
        if ask is None:
            return []
        return [(word, about) for word, about in ask(self._client, self) if word not in self._given]

    @property
    def _client(self) -> Client:
        return self._context.client.within(_PATIENCE_S)

    @property
    def plugin(self) -> str:
        """The first word of those that name something."""
        return self._given[0] if self._given else ""

    @property
    def uninstalled(self) -> bool:
        """Whether it is about what uninstalled plugins have left."""
        return self._target == "plugins purge"


def _plugins(client: Client, line: _Line) -> Candidates:
    found = client.plugins.list(include_uninstalled=line.uninstalled)
    wanted = [plugin for plugin in found if (plugin["status"] == "uninstalled") == line.uninstalled]
    return [(plugin["key"], f"{plugin['status']}, {plugin['phase']}") for plugin in wanted]


def _jobs(client: Client, _: _Line) -> Candidates:
    return [(job["job"], job["display_name"]) for job in client.jobs.list()]


def _runs(client: Client, _: _Line) -> Candidates:
    return [(run["id"], f"{run['job']} {run['state']}") for run in client.jobs.runs(limit=_RUNS)]


def _methods(client: Client, line: _Line) -> Candidates:
    methods = client.plugins.get(line.plugin)["methods"]
    return [(str(method["name"]), str(method.get("description") or "")) for method in methods]


def _keys(client: Client, line: _Line) -> Candidates:
    page = client.plugins.state_list(line.plugin, limit=_KEYS)
    return [(entry["key"], "") for entry in page["entries"]]


def _described(client: Client, _: _Line) -> Candidates:
    return [(name, told["summary"]) for name, told in client.describe()["methods"].items()]


def _audited(client: Client, _: _Line) -> Candidates:
    methods = client.describe()["methods"]
    return [(name, told["summary"]) for name, told in methods.items() if told["role"] != "observer"]


def _types(client: Client, _: _Line) -> Candidates:
    return [(name, told["summary"]) for name, told in client.describe()["events"].items()]


def _versions(client: Client, line: _Line) -> Candidates:
    return [(version["version"], version["state"]) for version in client.plugins.versions(line.plugin)]


_LEFT_TO_SHELL: Mapping[str, str] = {"SOURCE": ":files", "FILE": ":files", "PATH": ":files", "DIR": ":dirs"}
_ASK: Mapping[str, Callable[[Client, _Line], Candidates]] = {
    "KEY": _plugins,
    "TARGET": _plugins,
    "JOB": _jobs,
    "PLUGIN/KEY": _jobs,
    "RUN": _runs,
    "ID": _runs,
    "METHOD": _methods,
    "WHAT": _described,
    "AUDITED": _audited,
    "TYPE": _types,
    "STATE KEY": _keys,
    "V": _versions,
}
"""What the help calls a value, or `_KIND_OF` -> who knows them."""
_KIND_OF: Mapping[tuple[str, str], str] = {
    ("plugins state-get", "name"): "STATE KEY",
    ("audit list", "--method"): "AUDITED",
    ("events follow", "--type"): "TYPE",
    ("events list", "--type"): "TYPE",
}
"""Of values that the help calls the same as others."""
