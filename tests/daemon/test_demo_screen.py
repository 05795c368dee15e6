import io

from rich.console import Console

from supervisor.daemon.demo import Seen
from supervisor.daemon.demo_screen import doing, picture


def plugin(**fields):
    return {
        "key": "example.node-clock",
        "status": "ready",
        "phase": "running",
        "pid": 4194303,
        "restarts": 3,
        "crashes": 0,
        "uptime_s": 12.34,
        "next_restart_in_s": None,
        "calls_in_flight": 0,
        "summary": "One sentence.",
        **fields,
    }


def test_what_goes_on_fits_into_80_columns():
    seen = Seen("/tmp/control.sock")
    seen.plugins = [
        plugin(),
        plugin(phase="backoff", pid=None, uptime_s=None, next_restart_in_s=1.25, crashes=2),
        plugin(phase="stopping", calls_in_flight=1),
    ]
    out = io.StringIO()
    Console(file=out, width=80).print(picture(seen, events=3))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    for told in ("up 12.3 s", "crash 2, back in 1.2 s", "One sentence."):
        assert any(line.rstrip().endswith(told) for line in lines), told


def test_calls_in_flight_are_told():
    assert doing(plugin(calls_in_flight=2)) == "up 12.3 s, 2 in flight"
