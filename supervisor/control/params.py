"""What a request's params must be beyond their types."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from supervisor.core.errors import InvalidParams


def one_of(kind: Any, text: str, what: str) -> Any:
    """A member of an enum by its value.

    Raises:
        InvalidParams: there is none; the message lists them.
    """
    try:
        return kind(text)
    except ValueError:
        raise InvalidParams(f"{what} must be one of {', '.join(kind)}, not {text!r}") from None


def absolute(what: str, text: str) -> Path:
    """A path that the daemon understands as its caller does.

    Raises:
        InvalidParams: it is relative, or holds NUL.
    """
    if "\0" in text:
        raise InvalidParams(f"{what} must not contain NUL: {text!r} can be no path")
    path = Path(text)
    if not path.is_absolute():
        raise InvalidParams(f"{what} must be an absolute path: {text!r} would be relative to the daemon, not to you")
    return path


_S = TypeVar("_S", str, None)


def bounded(what: str, text: _S, longest: int) -> _S:
    """`text`, if it is not too long to be shown with every status.

    Raises:
        InvalidParams: it is.
    """
    if text is not None and len(text) > longest:
        raise InvalidParams(f"{what} may have {longest} characters, not {len(text)}")
    return text
