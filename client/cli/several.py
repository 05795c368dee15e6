"""One command on several plugins: all are tried, one after the other, whatever becomes of each."""

from __future__ import annotations

from client.cli.exits import exit_code, is_for_the_role, is_unreachable
from client.cli.render import escaped
from client.errors import NotFound, SupervisorError

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from client.cli.output import Context

_PATTERN = frozenset("*?[")
_NAMED = 8
"""So many are named in a question."""


def is_one(words: Sequence[str]) -> bool:
    """Whether this names one plugin, as commands always have: its answer is no list then."""
    return len(words) == 1 and not is_pattern(words[0])


def is_pattern(word: str) -> bool:
    return not _PATTERN.isdisjoint(word)


def chosen(context: Context, words: Sequence[str]) -> list[str]:
    """The plugins that are meant, each once; a pattern stands for the keys that it matches, in install order.

    Raises:
        NotFound: a pattern matches none.
    """
    if not any(map(is_pattern, words)):
        return list(dict.fromkeys(words))
    from fnmatch import fnmatchcase

    keys = [plugin["key"] for plugin in context.client.plugins.list()]
    found: dict[str, None] = {}
    for word in words:
        matching = [key for key in keys if fnmatchcase(key, word)] if is_pattern(word) else [word]
        if not matching:
            raise NotFound(f"no plugin's key matches {word!r}; nothing was done", pattern=word)
        found.update(dict.fromkeys(matching))
    return list(found)


def agree(context: Context, verb: str, words: Sequence[str], plugins: Sequence[str], *, yes: bool) -> None:
    """Ask before a pattern changes more than one plugin: it may match more than was thought of.

    Raises:
        Declined: the answer was no.
        UsageError: there is nobody to ask.
    """
    if len(plugins) < 2 or not any(map(is_pattern, words)):
        return
    more = f" and {len(plugins) - _NAMED} more" if len(plugins) > _NAMED else ""
    named = escaped(", ".join(plugins[:_NAMED])) + more
    question = f"{verb.capitalize()} {len(plugins)} plugins ({named})?"
    context.confirm(question, yes=yes, about={"plugins": list(plugins)})


def for_each(
    context: Context,
    plugins: Sequence[str],
    act: Callable[[str], Mapping[str, Any]],
    text: Callable[[Mapping[str, Any]], str],
) -> int:
    """Tell each result as it comes, or to programs a list of them; errors go where errors go. The exit code: the
    highest of theirs.

    Raises:
        SupervisorError: nobody answers, or it is refused for the role: then the others need not be tried.
    """
    code, results = 0, []
    try:
        for number, plugin in enumerate(plugins, 1):
            context.about = plugin
            try:
                result = act(plugin)
            except SupervisorError as error:
                code = max(code, _told(context, error))
                continue
            except KeyboardInterrupt:
                if rest := plugins[number:]:
                    context.note(f"not tried: {escaped(', '.join(rest))}")
                raise
            results.append(result)
            if not context.json:
                context.say(text(result))
    finally:
        if context.json:
            context.show(results, "")
    return code


def _told(context: Context, error: SupervisorError) -> int:
    if is_unreachable(error) or is_for_the_role(error):
        raise error
    from client.cli.failure import tell

    tell(context, error)
    return exit_code(error)
