"""What deploy/ has: the manifests against the schemas of their own APIs, and the image's definition by its linter."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from ollamad.config import Setting, load

ROOT: Final = Path(__file__).parents[2]
MANIFESTS: Final[list[dict[str, Any]]] = list(yaml.safe_load_all((ROOT / "deploy/kubernetes/ollamad.yaml").read_text()))
MONITOR: Final = yaml.safe_load((ROOT / "deploy/kubernetes/servicemonitor.yaml").read_text())
IMAGE: Final = (ROOT / "deploy/container/Containerfile").read_text()
NEWEST: Final = "1.37"
OLDEST: Final = "1.30"
"""The first in which a container may sleep before it is stopped."""


def manifest(kind: str) -> dict[str, Any]:
    return next(one for one in MANIFESTS if one["kind"] == kind)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("one", MANIFESTS, ids=[f"{one['kind']}-{one['metadata']['name']}" for one in MANIFESTS])
def test_kubernetes_own_schema_takes_each_manifest(one: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(one, version, strict=True)


def test_a_misspelt_field_would_be_seen() -> None:
    wrong = copy.deepcopy(manifest("DaemonSet"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


def against_the_operator(monitor: dict[str, Any], schemas: Path) -> str:
    script = ROOT / "tests/support/service_monitor.mjs"
    done = subprocess.run(
        ["node", script, schemas], input=json.dumps(monitor), capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode else ""


def test_the_operator_s_own_schema_takes_the_service_monitor(operator_schemas: Path) -> None:
    assert not against_the_operator(MONITOR, operator_schemas)
    wrong = copy.deepcopy(MONITOR)
    wrong["spec"]["endpoints"][0]["interval"] = 15
    assert "interval" in against_the_operator(wrong, operator_schemas)


def test_services_policy_and_monitor_find_the_pods_and_the_ports_by_the_names_that_these_have() -> None:
    pod = manifest("DaemonSet")["spec"]["template"]
    ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    services = [one for one in MANIFESTS if one["kind"] == "Service"]
    for service in services:
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    policy = manifest("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports
    chosen = MONITOR["spec"]["selector"]["matchLabels"].items()
    (status,) = (service for service in services if chosen <= service["metadata"]["labels"].items())
    assert MONITOR["spec"]["endpoints"][0]["port"] in {port["name"] for port in status["spec"]["ports"]}


def configured(text: str, folder: Path) -> None:
    tables = tomllib.loads(text)
    keys = [(f"{table}.{key}", value) for table, content in tables.items() for key, value in content.items()]
    load([Setting(key, value, "test") for key, value in keys], home=str(folder))


def test_the_configurations_that_are_shipped_are_good_ones(tmp_path: Path) -> None:
    configured(manifest("ConfigMap")["data"]["config.toml"], tmp_path)
    configured((ROOT / "deploy/container/config.toml").read_text(), tmp_path)


def test_a_pod_may_stop_in_as_much_time_as_its_streams_and_children_may_take() -> None:
    spec = manifest("DaemonSet")["spec"]["template"]["spec"]
    proxy = tomllib.loads(manifest("ConfigMap")["data"]["config.toml"])["proxy"]
    children_s = 10
    assert spec["terminationGracePeriodSeconds"] >= proxy["shutdown_notice_s"] + proxy["shutdown_grace_s"] + children_s


def test_the_linter_has_nothing_to_say_of_the_image() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, "-"], input=IMAGE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_copies_only_what_is_in_the_checkout_and_let_through() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    own = [line for line in IMAGE.splitlines() if line.startswith("COPY ") and "--from=" not in line]
    assert own
    for line in own:
        for source in line.split()[1:-1]:
            assert (ROOT / source).exists(), source
            assert source in let_through or Path(source).parts[0] in let_through, source
