"""Discretion: what is told of a worker, in logs, events and errors, without the secrets that it was given. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from supervisor.core.secrets import MASK
from supervisor.worker.output import Line

LEAST_CHARACTERS: Final = 4
"""What is shorter stands in too many words that have nothing to do with it."""
MOST_TEXTS: Final = 256
"""What is looked for in all that a worker prints; of more, those that it was given last."""
_LEAST_LINE_CHARACTERS: Final = 8


class Discretion:
    """That of one life. It costs nothing until there is a secret to keep."""

    def __init__(self) -> None:
        self._texts: tuple[str, ...] = ()
        self._pattern: re.Pattern[str] | None = None

    def learn(self, texts: Iterable[str]) -> None:
        """Keep these too from now on: before the worker has them, so that nothing it says comes too early.

        A key of many lines is printed as such: each of its lines is a text of its own.
        """
        wholes = [text for text in texts if len(text) >= LEAST_CHARACTERS]
        if not wholes:
            return
        # The order in which they came; of those that come together the wholes are worth more than their lines.
        fresh = dict.fromkeys([*_lines(wholes), *sorted(wholes)])
        self._texts = (*(text for text in self._texts if text not in fresh), *fresh)[-MOST_TEXTS:]
        # The longest first: one may begin with another.
        self._pattern = re.compile("|".join(map(re.escape, sorted(self._texts, key=len, reverse=True))))

    def hide(self, words: Any) -> Any:
        """A text, or plain values that hold some, with a mask for each secret in it."""
        if self._pattern is None:
            return words
        match words:
            case str():
                return self._pattern.sub(MASK, words) if self._tells(words) else words
            case dict():
                return {self.hide(name): self.hide(inner) for name, inner in words.items()}
            case list() | tuple():
                return [self.hide(inner) for inner in words]
            case bytes():
                return MASK if self._tells(words.decode(errors="replace")) else words
            case int() | float() if not isinstance(words, bool):
                return MASK if str(words) in self._texts else words
        return words

    def beginning(self, text: str, most: int) -> str:
        """The first `most` characters; the cut shows no half of a secret either."""
        if len(text) <= most:
            return str(self.hide(text))[:most]
        return self._without_half(str(self.hide(text[:most])))[:most]

    def lines(self, lines: list[Line]) -> list[Line]:
        """What a worker prints."""
        if self._pattern is None:
            return lines
        # All at once: mostly there is nothing to hide.
        if not self._tells("\n".join(line.text for line in lines)) and not any(line.truncated for line in lines):
            return lines
        return [self._line(line) for line in lines]

    def __bool__(self) -> bool:
        return self._pattern is not None

    def _line(self, line: Line) -> Line:
        text = str(self.hide(line.text))
        return Line(self._without_half(text), truncated=True) if line.truncated else Line(text)

    def _tells(self, words: str) -> bool:
        # Several times as fast as the pattern.
        return any(text in words for text in self._texts)

    def _without_half(self, text: str) -> str:
        """With a mask for the beginning of a secret at its end."""
        starts = [start for secret in self._texts if (start := _half_of(secret, text)) is not None]
        return text[: min(starts)] + MASK if starts else text


def _lines(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        if "\n" in text:
            stripped = map(str.strip, text.split("\n"))
            yield from (line for line in stripped if len(line) >= _LEAST_LINE_CHARACTERS)


def _half_of(secret: str, text: str) -> int | None:
    """Where in `text` a beginning of the secret stands that its end cuts off."""
    start = text.find(secret[0], max(0, len(text) - len(secret) + 1))
    while start >= 0:
        if secret.startswith(text[start:]):
            return start
        start = text.find(secret[0], start + 1)
    return None
