"""A process with a Ray cluster of three nodes on this machine, for tests that kill parts of it.

    python -m tests.support.chaos_cluster

It prints a JSON line with the cluster's `address` and the process ids of its two worker nodes (`raylets`). For each
line on standard input it adds a node and prints a JSON line with the node's `raylet`. It ends with its input.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ray.cluster_utils import Cluster

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 256 * 1024**2, "include_dashboard": False}
NOTICE_DEAD_NODES_SOON = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}
"""Five missed health checks end a node, which is Ray's default. They are one second
apart instead of three, to save time."""


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": NOTICE_DEAD_NODES_SOON})

    def add_node() -> int:
        return int(cluster.add_node(**NODE).all_processes["raylet"][0].process.pid)

    print(json.dumps({"address": cluster.address, "raylets": [add_node(), add_node()]}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"raylet": add_node()}), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
