"""What rpc.describe has promised once stays so: what is added passes, and what is changed is told by its name."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.control.describe import describe
from supervisor.wire.codec import decode, encode
from supervisor.wire.limits import SERVER
from supervisor.wire.message import Response
from tests.wire.golden.compare import changes, with_additions

FILE = Path(__file__).parent / "golden" / "describe.json"
PROMISED: dict[str, Any] = json.loads(FILE.read_text())
Doctor = Callable[[dict[str, Any]], object]


def told() -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(describe()))
    return plain


def params_of(description: dict[str, Any], method: str) -> dict[str, Any]:
    schema = description["methods"][method]["params"]
    definition: dict[str, Any] = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    return definition


def result_of(description: dict[str, Any], method: str) -> dict[str, Any]:
    schema = description["methods"][method]["result"]
    definition: dict[str, Any] = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    return definition


def test_nothing_that_was_promised_is_otherwise() -> None:
    broken = changes(PROMISED, told())
    assert not broken, (
        "what clients rely on has changed:\n  "
        + "\n  ".join(broken)
        + "\nA change like that needs a new PROTOCOL_VERSION, and a golden file of its own. Better add beside what is "
        "there; `python -m tests.wire.golden` records additions."
    )


ADDITIONS: dict[str, Doctor] = {
    "a method": lambda d: d["methods"].update({"x.y": d["methods"]["daemon.ping"]}),
    "an event": lambda d: d["events"].update({"x.y": d["events"]["plugin.loaded"]}),
    "an error": lambda d: d["errors"].update(NEW={"code": 99, "retryable": False, "summary": "x"}),
    "a notification": lambda d: d["notifications"].update({"x.y": d["notifications"]["rpc.event"]}),
    "a limit": lambda d: d["limits"].update(max_x=1),
    "a role at the top": lambda d: d["roles"].append("owner"),
    "words": lambda d: d["methods"]["plugins.get"].update(summary="other", description="words"),
    "words in a schema": lambda d: params_of(d, "plugins.get").update(description="other", title="words"),
    "progress": lambda d: d["methods"]["plugins.rollback"].update(progress=True),
    "repeatable": lambda d: d["methods"]["plugins.call"].update(repeatable=True),
    "an optional param": lambda d: params_of(d, "plugins.get")["properties"].update(x={"type": "string"}),
    "a param that need not be": lambda d: params_of(d, "plugins.get")["required"].remove("plugin"),
    "a wider param": lambda d: params_of(d, "plugins.get")["properties"].update(
        plugin={"anyOf": [{"type": "string"}, {"type": "integer"}]}
    ),
    "a field of a result": lambda d: result_of(d, "plugins.get")["properties"].update(x={"type": "string"}),
    "a field that is always there": lambda d: result_of(d, "rpc.describe")["required"].append("x"),
    "a field of an event": lambda d: d["events"]["plugin.loaded"]["data"]["properties"].update(x={"type": "null"}),
}


@pytest.mark.parametrize("what", ADDITIONS)
def test_an_addition_passes(what: str) -> None:
    doctored = copy.deepcopy(PROMISED)
    ADDITIONS[what](doctored)
    assert doctored != PROMISED
    assert changes(PROMISED, doctored) == []


CHANGES: list[tuple[str, Doctor]] = [
    ("protocol was 1, and is 2", lambda d: d.update(protocol=2)),
    ("roles were ['observer', 'operator', 'admin'], and are ['operator'", lambda d: d["roles"].pop(0)),
    ("limits: max_depth was 16, and is 8", lambda d: d["limits"].update(max_depth=8)),
    ("limits: max_depth was 16, and is None", lambda d: d["limits"].pop("max_depth")),
    ("method plugins.get is gone", lambda d: d["methods"].pop("plugins.get")),
    ("method plugins.get: role was 'observer', and", lambda d: d["methods"]["plugins.get"].update(role="admin")),
    (
        "method plugins.get: deadline_ms was 30000, and is None",
        lambda d: d["methods"]["plugins.get"].update(deadline_ms=None),
    ),
    (
        "method plugins.load: survives_disconnect was True, and is False",
        lambda d: d["methods"]["plugins.load"].update(survives_disconnect=False),
    ),
    (
        "method plugins.install: progress was True, and is False",
        lambda d: d["methods"]["plugins.install"].update(progress=False),
    ),
    (
        "method plugins.get: repeatable was True, and is False",
        lambda d: d["methods"]["plugins.get"].update(repeatable=False),
    ),
    ("method plugins.get: params.pss is gone", lambda d: params_of(d, "plugins.get")["properties"].pop("pss")),
    (
        "method plugins.get: params.pss is required, and was not",
        lambda d: params_of(d, "plugins.get")["required"].append("pss"),
    ),
    (
        "method plugins.get: params.x is required, and was not",
        lambda d: (
            params_of(d, "plugins.get")["properties"].update(x={"type": "string"}),
            params_of(d, "plugins.get")["required"].append("x"),
        ),
    ),
    (
        "method plugins.get: params.pss: type was 'boolean', and is 'string'",
        lambda d: params_of(d, "plugins.get")["properties"]["pss"].update(type="string"),
    ),
    (
        "method plugins.get: params.pss: default was False, and is True",
        lambda d: params_of(d, "plugins.get")["properties"]["pss"].update(default=True),
    ),
    (
        "method plugins.disable: params.reason: type was null | string, and is string",
        lambda d: params_of(d, "plugins.disable")["properties"]["reason"]["anyOf"].pop(),
    ),
    (
        "method plugins.disable: params.reason: default was None, and is ''",
        lambda d: params_of(d, "plugins.disable")["properties"]["reason"].update(default=""),
    ),
    (
        "method plugins.get: the order of params was plugin, pss, and is pss, plugin",
        lambda d: params_of(d, "plugins.get").update(
            properties=dict(reversed(params_of(d, "plugins.get")["properties"].items()))
        ),
    ),
    (
        "method plugins.get: the order of params was plugin, pss, and is x, plugin, pss",
        lambda d: params_of(d, "plugins.get").update(
            properties={"x": {"type": "string"}, **params_of(d, "plugins.get")["properties"]}
        ),
    ),
    ("method plugins.get: result.pid is gone", lambda d: result_of(d, "plugins.get")["properties"].pop("pid")),
    (
        "method plugins.get: result.pid was always there, and is not",
        lambda d: result_of(d, "plugins.get")["required"].remove("pid"),
    ),
    (
        "method plugins.get: result.key: type was 'string', and is 'integer'",
        lambda d: result_of(d, "plugins.get")["properties"]["key"].update(type="integer"),
    ),
    (
        "method plugins.get: result.key: type was string, and is null | string",
        lambda d: result_of(d, "plugins.get")["properties"].update(
            key={"anyOf": [{"type": "string"}, {"type": "null"}]}
        ),
    ),
    (
        "method plugins.get: result.jobs[]: type was 'string', and is 'integer'",
        lambda d: result_of(d, "plugins.get")["properties"]["jobs"]["items"].update(type="integer"),
    ),
    (
        "method events.list: result.events[].seq is gone",
        lambda d: d["methods"]["events.list"]["result"]["$defs"]["EventInfo"]["properties"].pop("seq"),
    ),
    ("event plugin.loaded is gone", lambda d: d["events"].pop("plugin.loaded")),
    (
        "event plugin.loaded: data.version is gone",
        lambda d: d["events"]["plugin.loaded"]["data"]["properties"].pop("version"),
    ),
    (
        "event plugin.loaded: data.version: type was 'string', and is 'null'",
        lambda d: d["events"]["plugin.loaded"]["data"]["properties"]["version"].update(type="null"),
    ),
    ("notification rpc.log is gone", lambda d: d["notifications"].pop("rpc.log")),
    (
        "notification rpc.log: params.place is gone",
        lambda d: d["notifications"]["rpc.log"]["params"]["$defs"]["LogNotice"]["properties"].pop("place"),
    ),
    ("error NOT_FOUND is gone", lambda d: d["errors"].pop("NOT_FOUND")),
    ("error NOT_FOUND: code was 7, and is 8", lambda d: d["errors"]["NOT_FOUND"].update(code=8)),
    (
        "error CONFLICT: retryable was True, and is False",
        lambda d: d["errors"]["CONFLICT"].update(retryable=False),
    ),
]


@pytest.mark.parametrize(("sentence", "doctor"), CHANGES, ids=[sentence for sentence, _ in CHANGES])
def test_a_change_is_named(sentence: str, doctor: Doctor) -> None:
    doctored = copy.deepcopy(PROMISED)
    doctor(doctored)
    broken = changes(PROMISED, doctored)
    assert len(broken) == 1
    assert broken[0].startswith(sentence)


def test_additions_are_recorded_beside_what_is_there() -> None:
    now = copy.deepcopy(PROMISED)
    gone = now["methods"].pop("plugins.get")
    now["methods"]["x.y"] = gone
    now["methods"]["plugins.list"]["summary"] = "other words"
    assert with_additions(PROMISED, now) == {**now, "methods": {**now["methods"], "plugins.get": gone}}


def write(file: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.wire.golden", str(file)]
    done = subprocess.run(command, cwd=FILE.parents[3], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_the_program_writes_additions_and_no_changes(tmp_path: Path) -> None:
    file = tmp_path / "describe.json"
    before = copy.deepcopy(PROMISED)
    del before["methods"]["plugins.get"], before["events"]["plugin.loaded"]
    del before["methods"]["plugins.list"]["result"]["$defs"]["PluginInfo"]["properties"]["key"]
    file.write_text(json.dumps(before))
    assert write(file) == (0, "")
    assert json.loads(file.read_text()) == told()
    before["errors"]["NOT_FOUND"]["code"] = 99
    file.write_text(json.dumps(before))
    status, said = write(file)
    assert (status, "error NOT_FOUND: code was 99, and is 7" in said) == (1, True)
    assert json.loads(file.read_text()) == before


def test_the_description_fits_and_is_flat_enough_for_anybody() -> None:
    frame = encode(Response(1, None, describe()), max_bytes=SERVER.max_frame_out_bytes // 4)
    assert decode(frame, max_depth=SERVER.max_depth - 4) == Response(1, None, describe())


def test_it_is_the_same_each_time() -> None:
    code = "import json; from supervisor.control.describe import describe; print(json.dumps(describe()))"
    outputs = {
        subprocess.check_output([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, cwd=FILE.parents[3])
        for seed in ("1", "2")
    }
    assert outputs == {json.dumps(describe()).encode() + b"\n"}
