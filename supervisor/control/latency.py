"""Latency: how many requests each method had, how they were answered, and how long that took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

from supervisor.channel import Abortable, Immediate
from supervisor.control.parts import Answer
from supervisor.core.errors import CallCancelled, SupervisorError
from supervisor.histogram import REQUEST_S, Distribution, Histogram
from supervisor.wire import control
from supervisor.wire.message import Request

UNKNOWN: Final = "unknown"
"""Instead of any method there is not: whatever a client makes up must not fill our memory."""
OK: Final = "OK"
_INTERNAL: Final = SupervisorError.code

OnRequest = Callable[[Request], Answer | Abortable]


@dataclass(slots=True)
class _Record:
    codes: Counter[str] = field(default_factory=Counter)
    took_s: Histogram = field(default_factory=lambda: Histogram(REQUEST_S))


@dataclass(frozen=True, slots=True)
class MethodLatency:
    """Of one method. `codes`: OK or an error's name -> how often. `took_s`: until the answer was there, in seconds; how
    long a slow client took to read it is not in there."""

    method: str
    codes: dict[str, int]
    took_s: Distribution


class Latency:
    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def timing(self, on_request: OnRequest) -> OnRequest:
        """The same, measured. Cancelled, be it by the end of the connection, is the code CANCELLED."""

        def timed(request: Request) -> Answer | Abortable:
            began_s = perf_counter()
            method = request.method if request.method in control.REQUESTS else UNKNOWN
            try:
                answer = on_request(request)
            except Exception as error:
                self._note(method, error.code if isinstance(error, SupervisorError) else _INTERNAL, began_s)
                raise
            if isinstance(answer, Immediate):
                self._note(method, OK, began_s)
                return answer
            if isinstance(answer, Abortable):
                return Abortable(self._during(method, began_s, answer.work), answer.abort)
            return self._during(method, began_s, answer)

        return timed

    def look(self) -> Iterator[MethodLatency]:
        """By method, of those that were asked for."""
        for method, record in sorted(self._records.items()):
            yield MethodLatency(method, dict(record.codes), record.took_s.look())

    async def _during(self, method: str, began_s: float, work: Coroutine[Any, Any, Any]) -> Any:
        code = CallCancelled.code
        try:
            answer = await work
            code = OK
        except Exception as error:
            code = error.code if isinstance(error, SupervisorError) else _INTERNAL
            raise
        finally:
            self._note(method, code, began_s)
        return answer

    def _note(self, method: str, code: str, began_s: float) -> None:
        record = self._records.get(method)
        if record is None:
            record = self._records[method] = _Record()
        record.codes[code] += 1
        record.took_s.observe(perf_counter() - began_s)
