"""A conversation with plugind by aio-msgpack-rpc; what it saw is printed as JSON."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import aio_msgpack_rpc

PLUGIN, SIZE = "test.good", 1_000_000


async def converse(client: aio_msgpack_rpc.Client) -> dict[str, Any]:
    async def refused(method: str, *params: Any) -> str:
        try:
            await client.call(method, *params)
        except Exception as error:  # noqa: BLE001 - its error class is not among what it exports
            return str(error)
        raise AssertionError(f"{method} was not refused")

    keys = [one["key"] for one in await client.call("plugins.list")]
    methods = (await client.call("rpc.describe"))["methods"]
    loaded = (await client.call("plugins.load", PLUGIN))["phase"]
    values = {"value": [1, -2, 2.5, "grün", None, True]}
    named = (await client.call("plugins.call", {"plugin": PLUGIN, "method": "echo", "params": values}))["result"]

    # Answered in another order than they are asked in.
    waits = [{"plugin": PLUGIN, "method": "sleep", "params": {"s": n / 100}} for n in range(8, 0, -1)]
    together = len(await asyncio.gather(*(client.call("plugins.call", wait) for wait in waits)))

    # What wants no answer gets none, whether it means something or not.
    await client.notify("rpc.cancel", 1_000_000)
    await client.notify("daemon.ping")

    text = "0123456789" * (SIZE // 10)
    large = (await client.call("plugins.call", PLUGIN, "echo", {"value": text}))["result"] == text
    disabled = (await client.call("plugins.disable", {"plugin": PLUGIN, "reason": "tea"}))["status"]
    return {
        "keys": keys,
        "methods": len(methods),
        "role": methods["plugins.load"]["role"],
        "loaded": loaded,
        "named": named,
        "together": together,
        "large": large,
        "disabled": disabled,
        "errors": [
            await refused("plugins.disable", PLUGIN),
            await refused("plugins.load", "nobody"),
            await refused("plugins.lod", PLUGIN),
            await refused("plugins.load", {"plugn": PLUGIN}),
        ],
    }


async def main() -> None:
    streams = await asyncio.open_unix_connection(os.environ["PLUGIND_SOCKET"])
    client = aio_msgpack_rpc.Client(*streams, response_timeout=15)
    try:
        print(json.dumps(await converse(client)))
    finally:
        client.close()


asyncio.run(main())
