"""The heads of steps whose shards run on other hosts.

jina takes several addresses of an external step for replicas of one executor. Where the step has shards, each
address is one of them here, and a head in the process of the Flow asks all of them, as jina's own heads do
where the shards run beside them.
"""

from __future__ import annotations

import json
from typing import Any

from crossmodal.jina.launch import import_jina

__all__ = ["add_shard_heads"]

# A shard is asked once, as the sender repeats a request that missed one; in so long it counts as lost.
_SHARD_MILLISECONDS = 10_000


def add_shard_heads(flow: Any) -> list[Any]:
    """Has ``flow``, not built yet, ask heads for its external sharded steps; returns them to start."""
    import_jina()
    from jina.helper import random_port
    from jina.orchestrate.pods.factory import PodFactory

    heads = []
    for _, deployment in flow:
        if not deployment.external or deployment.head_args is None:
            continue
        shards = zip(deployment.ext_repl_hosts, deployment.ext_repl_ports, strict=True)
        addresses = {shard: f"grpcs://{host}:{port}" for shard, (host, port) in enumerate(shards)}
        head = deployment.head_args
        head.connection_list = json.dumps(addresses)
        head.host, head.port = "127.0.0.1", [random_port()]
        head.timeout_send, head.retries = _SHARD_MILLISECONDS, 0
        deployment.first_pod_args.host, deployment.args.tls = head.host, False
        heads.append(PodFactory.build_pod(head))
    return heads
