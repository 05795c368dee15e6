"""Clients that nobody here wrote drive the daemon, as they come: a program in each one's language, below foreign/."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from supervisor.wire.control import REQUESTS
from tests.e2e.conftest import PATIENCE_S, Daemon, Rpc

FOREIGN = Path(__file__).with_name("foreign")
GOCODE = Path("/usr/share/gocode")
UGORJI = GOCODE / "src/github.com/ugorji/go/codec"
MODULES = "PLUGIND_TEST_NODE_MODULES"
"""Names the node_modules that npm has installed `neovim` into."""
REQUIRED = "PLUGIND_TEST_CLIENTS"
"""`required`: a client that is not there is a failure, as it is where CI is true."""
LONGEST_S = 90.0
"""For a build on a slow machine."""
GOOD = "test.good"
SEEN = {
    "keys": [GOOD],
    "methods": len(REQUESTS),
    "role": "operator",
    "loaded": "running",
    "named": [1, -2, 2.5, "grün", None, True],
    "large": True,
    "disabled": "disabled",
}
ERRORS = [
    f"INVALID_TRANSITION: cannot disable plugin '{GOOD}'",
    "NOT_FOUND: there is no plugin 'nobody'",
    "METHOD_NOT_FOUND: there is no method 'plugins.lod'",
    "INVALID_PARAMS: plugins.load has no param 'plugn'; did you mean 'plugin'?",
]
Drive = Callable[..., dict[str, Any]]


def missing(what: str) -> NoReturn:
    if os.environ.get("CI") == "true" or os.environ.get(REQUIRED) == "required":
        pytest.fail(f"{what}, and all clients are to be tried here")
    pytest.skip(what)


def program(name: str, package: str) -> str:
    return shutil.which(name) or missing(f"there is no {name} here: apt-get install {package}")


def run(*command: str | Path, **environment: str | Path) -> str:
    """What it prints; what it says besides is a failure."""
    env: dict[str, Any] = {**os.environ, **environment}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def alone(rpc: Rpc) -> None:
    """The client has ended, and its connection with it."""
    deadline = time.monotonic() + PATIENCE_S
    while (connections := rpc.call("daemon.status")["connections"]) != 1:
        assert time.monotonic() < deadline, connections
        time.sleep(0.01)


@pytest.fixture
def conversation(daemon: Daemon, plugin: Callable[[str], Path]) -> Drive:
    """Starts the daemon with one plugin, has a client talk with it, and checks what each of them is to see.

    Returns what this one saw besides.
    """

    def drive(*command: str | Path, **environment: str | Path) -> dict[str, Any]:
        with daemon.start() as rpc:
            rpc.install(plugin("good"))
            seen: dict[str, Any] = json.loads(run(*command, PLUGIND_SOCKET=daemon.socket, **environment))
            errors = seen.pop("errors")
            assert [error[: len(like)] for error, like in zip(errors, ERRORS, strict=True)] == ERRORS
            [disabled] = rpc.call("events.list", types=["plugin.disabled"])["events"]
            assert disabled["data"]["reason"] == "tea"
            alone(rpc)
        assert daemon.stop() == 0
        assert '"level": "error"' not in daemon.log.read_text()
        assert {name: seen.pop(name, None) for name in SEEN} == SEEN
        return seen

    return drive


def test_neovim(conversation: Drive, tmp_path: Path) -> None:
    """Its rpcrequest() and rpcnotify() in Lua. It takes events too, and says that it has no function for them."""
    nvim = program("nvim", "neovim")
    homes = {f"XDG_{kind}_HOME": tmp_path for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    seen = conversation(nvim, "--headless", "--clean", "-c", f"luafile {FOREIGN / 'client.lua'}", **homes)
    assert seen == {"ping": True, "unsubscribed": True}


def test_go(conversation: Drive, tmp_path: Path) -> None:
    """net/rpc over ugorji's codec. A notification that it did not ask for would end it, as would an error map."""
    go = program("go", "golang-go")
    if not UGORJI.is_dir():
        missing(f"there is no {UGORJI}: apt-get install golang-github-ugorji-go-codec-dev")
    # Its fast paths for every type there is are three quarters of what is to be compiled.
    client = tmp_path / "client"
    build = [go, "build", "-tags", "notfastpath codec.notfastpath", "-o", client, FOREIGN / "client.go"]
    run(*build, GO111MODULE="off", GOPATH=GOCODE, GOCACHE=tmp_path / "gocache", GOFLAGS="")
    assert conversation(client) == {"together": 8}


def test_aio_msgpack_rpc(conversation: Drive) -> None:
    assert conversation(sys.executable, FOREIGN / "client.py") == {"together": 8}


def test_npm_neovim(conversation: Drive) -> None:
    """Its Transport: many calls at once, `rpc.cancel`, and events as they come."""
    node, modules = program("node", "nodejs"), os.environ.get(MODULES, "")
    if not Path(modules, "neovim").is_dir():
        how = f"npm install --prefix DIR neovim@5.5.0, and {MODULES}=DIR/node_modules"
        missing(f"npm's neovim is not in {MODULES}={modules}: {how}")
    assert conversation(node, FOREIGN / "client.js") == {
        "together": 8,
        "cancelled": "CANCELLED: plugins.wait was cancelled",
        "notifications": ["rpc.event"],
        "told": GOOD,
        "unsubscribed": True,
    }
