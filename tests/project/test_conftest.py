"""Which process of pytest-xdist runs which test files."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.conftest import pytest_xdist_make_scheduler

TESTS = [
    *(f"tests/project/test_docs.py::test[{number}]" for number in range(6)),
    *(f"tests/ray/test_a.py::test_{number}" for number in range(2)),
    *(f"tests/ray/test_b.py::test_{number}" for number in range(4)),
    *(f"tests/system/test_jobs.py::test_{number}" for number in range(3)),
    "tests/unit/test_c.py::test",
]


class Node:
    """A process of pytest-xdist that keeps the tests which it gets."""

    shutting_down = False

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.waiting: list[int] = []
        self.files: list[str] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.waiting += indices
        self.files += dict.fromkeys(TESTS[index].split("::")[0] for index in indices)

    def shutdown(self) -> None:
        self.shutting_down = True


def started(num_nodes: int) -> tuple[Any, list[Node]]:
    """A scheduler that has handed out the first file to each of its processes."""
    nodes = [Node(f"gw{number}") for number in range(num_nodes)]
    config: Any = SimpleNamespace(
        getvalue=lambda name: ["popen"] * num_nodes, option=SimpleNamespace(loadscopereorder=True)
    )
    scheduler = pytest_xdist_make_scheduler(config, SimpleNamespace(loadscopesched=lambda *text: None))
    for node in nodes:
        scheduler.add_node(node)
    for node in nodes:
        scheduler.add_node_collection(node, TESTS)
    scheduler.schedule()
    return scheduler, nodes


def run_all(scheduler: Any, node: Node) -> None:
    """Let one process end its tests, and those that it gets meanwhile."""
    while node.waiting:
        scheduler.mark_test_complete(node, node.waiting.pop(0))


def test_the_process_of_the_ray_files_begins_with_them_and_helps_in_the_end() -> None:
    scheduler, (first, second) = started(2)
    assert (first.files, second.files) == (["tests/system/test_jobs.py"], ["tests/project/test_docs.py"])
    run_all(scheduler, first)
    # The longest one, and then those with most tests.
    ray_files = ["tests/system/test_jobs.py", "tests/ray/test_b.py", "tests/ray/test_a.py"]
    assert first.files == [*ray_files, "tests/unit/test_c.py"]
    assert first.shutting_down


def test_a_process_without_other_files_left_takes_ray_files() -> None:
    scheduler, (_, second) = started(2)
    run_all(scheduler, second)
    others = ["tests/project/test_docs.py", "tests/unit/test_c.py"]
    assert second.files == [*others, "tests/ray/test_b.py", "tests/ray/test_a.py"]


def test_one_process_runs_every_file() -> None:
    scheduler, (only,) = started(1)
    run_all(scheduler, only)
    assert len(only.files) == 5
    assert only.waiting == []
