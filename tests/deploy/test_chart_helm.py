"""Real Helm (the SDK of Helm 4) on what `stoker render --helm` writes, against the stand-in for a cluster.

Run by `make test` where `scripts/helm` could bring it, and by `make test-helm`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_real import ROOT, Helm, Object, Refused, changed, chart_of, differences, made, manifest, real_helm, wanted

from stoker.spec import Mode, load, loads
from stoker.testing.kubernetes import api_server

EXAMPLES = ROOT / "examples"
GUIDE = EXAMPLES / "guide-values.yaml"

LIVE: Object = {
    "global": {
        "images": {"registry": "registry.example.com:5000/team", "tag": "1.20"},  # a number to YAML
        "observability": {"prometheusUrl": "https://prometheus-k8s.monitoring.svc/base"},
    },
    "karpenter": {
        "image": "al2023@v20270101",
        "protectedHours": {"schedule": "*/5 1 * * *", "duration": "4h30m", "nodes": "5%"},
    },
    "keda": {
        "pollingInterval": 30,
        "cooldownPeriod": 604800,
        "activationLagCount": 2,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": {"stabilizationWindowSeconds": 45}}}},
    },
    "llm": {"inference": {"image": "registry.example.com/vllm:2026-11-27", "autoscaling": {"minReplicas": 3}}},
}


@pytest.fixture(scope="module")
def helm() -> Iterator[Helm]:
    with real_helm() as found:
        yield found


def guide() -> Any:
    return yaml.safe_load(GUIDE.read_text())


class TestLint:
    @pytest.mark.parametrize("name", ["platform", "guide-values", "everything"])
    def test_the_charts_of_the_examples_have_no_warning(self, helm: Helm, tmp_path: Path, name: str) -> None:
        assert set(helm.lint(chart_of(load(EXAMPLES / f"{name}.yaml"), tmp_path / "c"))) <= {1}  # no icon

    def test_the_chart_of_the_defaults_has_none(self, helm: Helm, tmp_path: Path) -> None:
        assert set(helm.lint(chart_of(loads(""), tmp_path / "c"))) <= {1}


class TestInstall:
    @pytest.mark.parametrize("mode", ["karpenter", "auto", "hybrid"])
    def test_the_guide_s_file_is_installed_as_it_is(self, helm: Helm, tmp_path: Path, mode: Mode) -> None:
        platform = load(GUIDE)
        chart = chart_of(platform, tmp_path / "c", mode)
        with api_server() as api:
            said = helm.install(chart, api.kubeconfig(tmp_path / "config"), guide())
            assert said["status"] == "deployed"
            assert differences(made(api), wanted(platform, mode)) == []

    def test_the_defaults_client_side(self, helm: Helm, tmp_path: Path) -> None:
        chart = chart_of(loads(""), tmp_path / "c")
        with api_server() as api:
            helm.install(chart, api.kubeconfig(tmp_path / "config"), server_side_apply=False)
            assert differences(made(api), wanted(loads(""))) == []

    def test_live_values_are_as_if_rendered_with_them(self, helm: Helm, tmp_path: Path) -> None:
        platform = load(GUIDE)
        chart = chart_of(platform, tmp_path / "c")
        with api_server() as api:
            kubeconfig = api.kubeconfig(tmp_path / "config")
            helm.install(chart, kubeconfig)
            assert helm.upgrade(chart, kubeconfig, LIVE)["status"] == "deployed"
            assert differences(made(api), wanted(changed(chart, LIVE))) == []
            helm.upgrade(chart, kubeconfig, {}, reset_values=True)
            assert differences(made(api), wanted(platform)) == []
