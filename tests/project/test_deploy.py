"""The configuration files for clusters are valid, and agree with each other and with the code."""

from __future__ import annotations

import logging
import os
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from vidclf import cli
from vidclf.config import ClassifyConfig, ExtractConfig, TrainConfig
from vidclf.device import LEAST_DRIVER
from vidclf.pipeline import prometheus

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = sorted((ROOT / "deploy").glob("ray*.yaml"))
CONFIGS = {"extract": ExtractConfig, "train": TrainConfig, "classify": ClassifyConfig}
KUBERAY_CRDS = "VIDCLF_KUBERAY_CRDS"
"""Environment variable: a directory with KubeRay's ray.io_rayclusters.yaml and ray.io_rayjobs.yaml, for validation."""

RAY_VERSION = re.search(r"^ray\[.*\]==(.+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)[1]  # type: ignore[index]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.fixture(params=["cluster.yaml", "deploy/onprem.yaml"])
def launched(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """A configuration file for `ray up`, validated by Ray and with Ray's defaults filled in."""
    caplog.set_level(logging.ERROR)
    config = prepare_config(load(ROOT / request.param))
    validate_config(config)
    return dict(config)


def test_ray_up_files_are_valid_and_pinned_and_want_a_token(launched: dict[str, Any]) -> None:
    assert f":{RAY_VERSION}-" in launched["docker"]["image"]
    (head,) = [command for command in launched["head_start_ray_commands"] if "ray start" in command]
    (worker,) = [command for command in launched["worker_start_ray_commands"] if "ray start" in command]
    assert "RAY_AUTH_MODE=token" in head
    assert "RAY_AUTH_MODE=token" in worker
    assert "--num-cpus=0" in head
    assert launched["file_mounts"]["/home/ray/.ray/auth_token"].endswith(".ray/auth_token")


def test_a_ray_up_file_with_an_unknown_field_would_be_refused() -> None:
    broken = load(ROOT / "cluster.yaml")
    broken["available_node_types"]["gpu"]["max_wrokers"] = 4
    with pytest.raises(jsonschema.ValidationError, match="max_wrokers"):
        validate_config(prepare_config(broken))


def test_the_aws_pools_start_empty_and_the_decoding_one_is_spot() -> None:
    types = load(ROOT / "cluster.yaml")["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert [types[name]["min_workers"] for name in ("decode", "gpu")] == [0, 0]
    assert types["decode"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_the_aws_machines_with_gpus_have_an_image_whose_driver_torch_can_use() -> None:
    image = load(ROOT / "cluster.yaml")["available_node_types"]["gpu"]["node_config"]["ImageId"]
    parameter = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
    assert image == f"resolve:ssm:{parameter}"
    # The minimum driver for CUDA 13, with which torch is built: in the message and wherever machines are described.
    assert (str(torch.version.cuda).split(".")[0], LEAST_DRIVER) == ("13", "580")
    for path in ("cluster.yaml", "deploy/onprem.yaml", "docs/guides/cluster.md", "docs/guides/mig.md"):
        assert f"driver {LEAST_DRIVER} or later" in (ROOT / path).read_text(), path


def test_there_are_manifests_for_every_kind_of_cluster_and_job() -> None:
    assert [path.name for path in MANIFESTS] == [
        "raycluster-mig.yaml",
        "raycluster.yaml",
        "rayjob-classify.yaml",
        "rayjob-extract.yaml",
        "rayjob-train.yaml",
    ]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kuberay_manifests_fit_the_schema(path: Path) -> None:
    jsonschema.validate(load(path), load(ROOT / "tests/kuberay_schema.yaml"))


def test_the_schema_refuses_what_kuberay_would() -> None:
    broken = load(ROOT / "deploy/raycluster.yaml")
    broken["spec"]["workerGroupSpecs"][0]["maxReplica"] = broken["spec"]["workerGroupSpecs"][0].pop("maxReplicas")
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        jsonschema.validate(broken, load(ROOT / "tests/kuberay_schema.yaml"))


@pytest.mark.skipif(KUBERAY_CRDS not in os.environ, reason=f"{KUBERAY_CRDS} names no directory with KubeRay's CRDs")
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kuberay_manifests_fit_kuberays_own_definitions(path: Path) -> None:
    manifest = load(path)
    definition = load(Path(os.environ[KUBERAY_CRDS]) / f"ray.io_{manifest['kind'].lower()}s.yaml")
    (version,) = [version for version in definition["spec"]["versions"] if version["name"] == "v1"]
    jsonschema.validate(manifest, strict(version["schema"]["openAPIV3Schema"]))


def strict(schema: Any) -> Any:
    """A structural schema of Kubernetes, changed to a JSON Schema that refuses unknown fields."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
    keeps_unknown = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict) and not keeps_unknown:
        schema["additionalProperties"] = False
    return schema


def clusters() -> list[tuple[str, dict[str, Any]]]:
    specs = [(path.name, load(path)["spec"]) for path in MANIFESTS]
    return [(name, spec.get("rayClusterSpec", spec)) for name, spec in specs]


@pytest.mark.parametrize(("name", "spec"), clusters(), ids=lambda value: value if isinstance(value, str) else "")
def test_kubernetes_clusters_are_pinned_want_a_token_and_reserve_nothing_on_the_head(
    name: str, spec: dict[str, Any]
) -> None:
    assert spec["rayVersion"] == RAY_VERSION
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = {group["groupName"]: group["template"]["spec"]["containers"][0] for group in spec["workerGroupSpecs"]}
    group, gpus = ("mig", "nvidia.com/mig-1g.10gb") if name == "raycluster-mig.yaml" else ("gpu", "nvidia.com/gpu")
    assert groups[group]["resources"]["limits"][gpus] == "1"


@pytest.mark.parametrize("job", CONFIGS)
def test_the_entrypoints_of_jobs_are_commands_of_ours(job: str) -> None:
    entrypoint = shlex.split(load(ROOT / f"deploy/rayjob-{job}.yaml")["spec"]["entrypoint"])
    assert entrypoint[:2] == ["python", f"/home/ray/vidclf/jobs/{job}.py"]
    cli.parse(CONFIGS[job], entrypoint[2:])


def test_the_image_has_the_pinned_ray_and_leaves_the_tests_packages_out() -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    assert f"\nFROM rayproject/ray:{RAY_VERSION}-" in dockerfile
    assert "/^# Checks and tests/,$d" in dockerfile
    needed, _, rest = (ROOT / "requirements.txt").read_text().partition("\n# Checks and tests")
    assert "torch==" in needed
    assert "pytest==" in rest


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    exported = set(re.findall(r"\"(vidclf_\w+)\"", Path(prometheus.__file__).read_text()))
    text = (ROOT / "deploy/grafana.json").read_text()
    shown = {re.sub("_(total|bucket|sum|count)$", "", name) for name in re.findall(r"\bray_(vidclf_\w+)", text)}
    assert shown == exported


def pods() -> list[tuple[str, dict[str, Any]]]:
    groups = [
        (name, group) for name, spec in clusters() for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    ]
    return [(f"{name}-{group.get('groupName', 'head')}", group["template"]["spec"]) for name, group in groups]


@pytest.mark.parametrize("pod", [pod for _, pod in pods()], ids=[name for name, _ in pods()])
def test_pods_need_no_rights(pod: dict[str, Any]) -> None:
    """The requirements of the profile `restricted` of the Pod Security Standards of Kubernetes."""
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


def test_network_policies_let_ray_nodes_the_operator_and_prometheus_in_and_nobody_else() -> None:
    policies = list(yaml.safe_load_all((ROOT / "deploy/networkpolicy.yaml").read_text()))
    assert {policy["kind"] for policy in policies} == {"NetworkPolicy"}
    nodes, head, metrics = [policy["spec"] for policy in policies]
    of_ray = {"matchLabels": {"ray.io/is-ray-node": "yes"}}
    assert (nodes["podSelector"], nodes["ingress"]) == (of_ray, [{"from": [{"podSelector": of_ray}]}])
    assert head["podSelector"] == {"matchLabels": {"ray.io/node-type": "head"}}
    assert [rule["ports"] for rule in head["ingress"]] == [[{"protocol": "TCP", "port": 8265}]]
    assert [rule["ports"] for rule in metrics["ingress"]] == [[{"protocol": "TCP", "port": 8080}]]
    assert all(
        spec["policyTypes"] == ["Ingress"] and all("from" in rule for rule in spec["ingress"])
        for spec in (nodes, head, metrics)
    )


def test_the_token_is_the_users_alone_wherever_it_is_copied() -> None:
    for name in ("docs/guides/cluster.md", "deploy/onprem.yaml", "cluster.yaml"):
        assert "chmod 600 ~/.ray/auth_token" in (ROOT / name).read_text(), name


def test_attempts_of_a_rayjob_take_over_from_the_one_before() -> None:
    for job in CONFIGS:
        assert load(ROOT / f"deploy/rayjob-{job}.yaml")["spec"]["entrypoint"].endswith(" --take-over")
