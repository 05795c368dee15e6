"""What a command is given: options, the client, and where its words go."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence
    from typing import Any

    from client.sync_client import Client


class Declined(Exception):
    """The operator said no; nothing was done."""


def make_streams_safe() -> None:
    """What cannot be encoded is escaped; what was closed before we began leads nowhere."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")


class Context:
    """One run of pluginctl. The client is made at its first use, so `new` and `check` need no daemon."""

    def __init__(self, *, json: bool, socket: str | None) -> None:
        self.json = json
        self.socket = socket
        self.output: str | None = None
        """The form of a list that was asked for: wide, name, or none in particular."""
        self.about: str | None = None
        """Key or id of the plugin that the command is about, if it is about one."""
        self.command = ""
        """Its last word, such as `call`."""
        self.typed = ""
        """All of its words, such as `runs show`."""
        self.hint = ""
        """What may help if its params are refused."""
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        if self._client is None:
            from client.sync_client import Client

            self._client = Client(self.socket, name="pluginctl")
        return self._client

    def take(self, options: Namespace) -> None:
        """What stands among the options of the command; what stood before the verb holds on."""
        self.output = getattr(options, "output", None)
        self.json = getattr(options, "json", self.json) or self.output == "json"
        self.socket = getattr(options, "socket", self.socket)
        self.check_socket()

    def check_socket(self) -> None:
        """
        Raises:
            UsageError: none was named, most likely by a variable that is not set.
        """
        if self.socket == "":
            from client.cli.command import UsageError

            raise UsageError("--socket needs a path, not an empty text")

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    @property
    def colour(self) -> bool:
        """Only on a terminal, and when nobody asked for none."""
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None when the output goes elsewhere, or is wanted wide, and nothing is to be cut."""
        if self.output == "wide":
            return None
        # A terminal that nobody told its size says 0.
        return (os.get_terminal_size(sys.stdout.fileno()).columns or None) if sys.stdout.isatty() else None

    def say(self, text: str) -> None:
        """To people; `text` is escaped already where it came from elsewhere."""
        if text:
            sys.stdout.write(text if text.endswith("\n") else f"{text}\n")

    def show(self, value: Any, text: str) -> None:
        """The result: `value` to programs, `text` to people."""
        if self.json:
            from client.cli.plain import to_json

            self.say(to_json(value, indent=2))
        else:
            self.say(text)

    def show_list(self, values: Sequence[Mapping[str, object]], name: str, text: str) -> None:
        """A list of results; `name` is the field that tells them apart, for those who want nothing but that."""
        if self.output == "name":
            from client.cli.render import escaped

            text = "\n".join(escaped(value[name]) for value in values)
        self.show(values, text)

    def stream(self, value: Any, text: str) -> None:
        """One of many results, at once: a line of JSON to programs."""
        if self.json:
            from client.cli.plain import to_json

            text = to_json(value)
        self.say(text)
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Beside the result, to people: programs read nothing but results and errors."""
        if not self.json:
            self.tell(text)

    def tell(self, text: str) -> None:
        """An error, in the form that is wanted."""
        sys.stdout.flush()
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def confirm(self, question: str, *, yes: bool, about: Mapping[str, Any] | None = None) -> None:
        """Ask on the terminal. What is piped in, or was typed before the question stood there, is no answer: a script
        says `--yes`, and so does a program. `about` tells programs what it is about.

        Raises:
            Declined: the answer was not yes.
            UsageError: there is no terminal to ask on.
        """
        if yes:
            return
        sys.stdout.flush()
        if self.json or not (sys.stdin.isatty() and _forget_typed() and _ask(f"{question} [y/N] ")):
            from client.cli.command import UsageError

            why = "--json asks nothing" if self.json else "there is no terminal to ask on"
            raise UsageError(f"this needs --yes, since {why}: {question}", _NO_USAGE, about)
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise Declined("nothing was done")


_NO_USAGE = "nothing was done"


def _forget_typed() -> bool:
    """Drop what was typed ahead: nobody agrees to what he has not seen. Whether that could be done."""
    import termios

    try:
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
    except termios.error:
        return False
    return True


def _ask(question: str) -> bool:
    """Put the question where a person sees it; whether there is such a place."""
    if sys.stderr.isatty():
        sys.stderr.write(question)
        sys.stderr.flush()
        return True
    try:
        with open("/dev/tty", "w", encoding="utf-8", errors="backslashreplace") as terminal:
            terminal.write(question)
    except OSError:
        return False
    return True
