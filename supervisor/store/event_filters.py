"""Filters: which events are meant, judged alike by SQLite, of what is stored, and here, of what happens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any, Final

from supervisor.core.errors import InvalidParams
from supervisor.core.event import Recorded

MAX_FILTERS: Final = 100
MAX_FILTER_CHARS: Final = 200
_REMEMBERED: Final = 128
"""Texts per globs; there are fewer fixed types."""

Condition = tuple[str, Sequence[Any]]
"""Of SQL, and its parameters."""


class _Globs:
    """Whether a text matches any of them. Each text is looked into once: whoever subscribes decides how many globs
    there are, and whoever emits how many texts."""

    def __init__(self, globs: Sequence[str]) -> None:
        self._texts = frozenset(glob for glob in globs if not any(c in glob for c in "*?["))
        self._globs = [glob for glob in globs if glob not in self._texts]
        self._patterns: list[re.Pattern[str]] | None = None
        self._known: dict[str, bool] = {}

    def prepare(self) -> None:
        """Takes up to 100 ms, and any thread will do; else the first `match` takes them."""
        if self._patterns is None:
            # One by one: `re` remembers hundreds, however large.
            self._patterns = [re.compile(translate(glob)) for glob in self._globs]

    def match(self, text: str) -> bool:
        known = self._known.get(text)
        if known is None:
            self.prepare()
            known = text in self._texts or any(pattern.match(text) for pattern in self._patterns or ())
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[text] = known
        return known


@dataclass(frozen=True, slots=True)
class Filters:
    """Which events are meant: those that match one of each, where there are any.

    `types` are globs (`plugin.*`), `plugins` ids, `jobs` names as <plugin>/<key>. They judge by nothing else.
    """

    types: Sequence[str] = ()
    plugins: Sequence[str] = ()
    jobs: Sequence[str] = ()
    _types: _Globs = field(init=False, repr=False, compare=False)
    _plugins: frozenset[str] = field(init=False, repr=False, compare=False)
    _jobs: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_types", _Globs(self.types))
        object.__setattr__(self, "_plugins", frozenset(self.plugins))
        object.__setattr__(self, "_jobs", frozenset(self.jobs))

    def check(self) -> None:
        """Raises:
        InvalidParams: more, or longer ones, than anybody needs; every event is held against each of them.
        """
        for what, filters in (("types", self.types), ("plugins", self.plugins), ("jobs", self.jobs)):
            if len(filters) > MAX_FILTERS:
                raise InvalidParams(f"{what} may have {MAX_FILTERS} entries, not {len(filters)}; none means all")
            if (longest := max(map(len, filters), default=0)) > MAX_FILTER_CHARS:
                raise InvalidParams(f"an entry of {what} may have {MAX_FILTER_CHARS} characters, not {longest}")
        if odd := next((glob for glob in self.types if "[^" in glob), None):
            raise InvalidParams(f"{odd!r} is no type's glob here: write [!…] for none of these characters")

    def prepare(self) -> None:
        """Make `match` quick; in any thread, as it may take 100 ms."""
        self._types.prepare()

    def match(self, event: Recorded) -> bool:
        if self._plugins and event.plugin_id not in self._plugins:
            return False
        if self._jobs and event.job not in self._jobs:
            return False
        return not self.types or self._types.match(event.type)

    def conditions(self) -> Iterator[Condition]:
        """All of them hold. Flat, as SQLite parses parentheses only so deep."""
        if self.types:
            # SQLite's GLOB negates with ^ where a shell has !.
            globs = [glob.replace("[!", "[^") for glob in self.types]
            yield f"({' OR '.join(['type GLOB ?'] * len(globs))})", globs
        if self.plugins:
            yield f"plugin_id IN ({', '.join('?' * len(self.plugins))})", self.plugins
        if self.jobs:
            yield f"job IN ({', '.join('?' * len(self.jobs))})", self.jobs
