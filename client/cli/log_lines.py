"""All lines of a log up to what was the newest, however many there are: one answer holds so many bytes only."""

from __future__ import annotations

from client.cli.render import escaped
from client.errors import DeadlineExceeded

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Iterator

    from client.cli.output import Context
    from supervisor.wire.results import LogLine

_QUIET_S = 10.0
_ALIKE_S = 0.1


def follow_until(
    context: Context,
    newest: LogLine,
    plugin: str,
    tail: int | None,
    since_ms: int | None,
    *,
    level: str | None = None,
    run: str | None = None,
    stream: str | None = None,
) -> Iterator[LogLine]:
    """The lines up to `newest`, with those that came in the same millisecond and may look just like it."""
    found = False
    with context.client.logs(
        plugin,
        tail,
        since_ms,
        level,
        run,
        stream,
        on_notice=lambda text: context.tell(f"pluginctl: {escaped(text)}"),
    ) as lines:
        while True:
            try:
                line = lines.receive(_ALIKE_S if found else _QUIET_S)
            except DeadlineExceeded:
                if not found:
                    context.note("the rest of its log did not come; try again")
                return
            if found and line["time_ms"] != newest["time_ms"]:
                return
            yield line
            found = found or line == newest
