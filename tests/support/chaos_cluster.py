"""A Ray cluster of three nodes on this machine in a process of its own, for tests that kill it piecemeal.

    python -m tests.support.chaos_cluster

Says as a JSON line where it is (`address`) and the process ids of its workers' nodes (`raylets`).
Each line on its standard input adds a node, answered by a JSON line with its `raylet`; the end of
the input ends the cluster.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ray.cluster_utils import Cluster

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 256 * 1024**2, "include_dashboard": False}
NOTICE_DEAD_NODES_SOON = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000}
"""Five missed checks end a node, as everywhere; a second apart instead of three, to save the tests' time."""


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
