"""name=value of the command line, and configuration files, as a configuration."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from client.cli.command import UsageError

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

_JSON_BEGINS = ("{", "[", '"')


def read_settings(words: Sequence[str], *, as_text: bool = False) -> dict[str, Any]:
    """`a.b=1 c=Rome d=@file e=-` as tables in tables; `as_text`: no value is read as JSON.

    Raises:
        UsageError: a word is none of these, or two of them contradict each other.
    """
    config: dict[str, Any] = {}
    if sum(word.partition("=")[2] == "-" for word in words) > 1:
        raise UsageError("only one value can be read from stdin")
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"{word!r} is no NAME=VALUE, such as city=Rome")
        _put(config, name, _value(name, text, as_text=as_text))
    return config


def removed(names: Sequence[str]) -> dict[str, Any]:
    """What takes these values away when it is laid over a configuration."""
    config: dict[str, Any] = {}
    for name in names:
        _put(config, name, None)
    return config


def read_file(path: str) -> dict[str, Any]:
    """TOML if its name says so, else JSON; `-` is JSON on stdin.

    Raises:
        UsageError: it cannot be read, or holds no table.
    """
    text = sys.stdin.read() if path == "-" else _text_of(path)
    try:
        if path.endswith(".toml"):
            import tomllib

            config: Any = tomllib.loads(text)
        else:
            config = json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.endswith(".toml") else "JSON"
        raise UsageError(f"{path} is no {kind}: {error}") from None
    if not isinstance(config, dict):
        raise UsageError(f"{path} holds no table of names and values")
    return config


def _put(config: dict[str, Any], name: str, value: Any) -> None:
    *tables, last = name.split(".")
    if not all([*tables, last]):
        raise UsageError(f"{name!r} is no name: write names with single dots between, as in db.port")
    for table in tables:
        config = config.setdefault(table, {})
        if not isinstance(config, dict):
            raise UsageError(f"{name} cannot be in {table}, which is given a value too")
    if last in config:
        raise UsageError(f"{name} is given twice")
    config[last] = value


def _value(name: str, text: str, *, as_text: bool) -> Any:
    if text == "-":
        return _from_stdin(name)
    if text.startswith("@"):
        return _without_line_end(_text_of(text[1:]))
    if as_text:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.startswith(_JSON_BEGINS):
            raise UsageError(f"the value of {name} is no JSON: {error}") from None
        return text  # a plain word needs no quotes


def _from_stdin(name: str) -> str:
    if sys.stdin.isatty():
        from getpass import getpass

        return getpass(f"{name}: ")
    return _without_line_end(sys.stdin.read())


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text (UTF-8)") from None


def _without_line_end(text: str) -> str:
    return text[:-1].removesuffix("\r") if text.endswith("\n") else text
