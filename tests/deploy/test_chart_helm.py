"""Real Helm (the SDK of Helm 4) on what `stoker render --helm` writes, against the stand-in for a cluster.

Run by `make test` where `scripts/helm` could bring it, and by `make test-helm`.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_real import (
    ROOT,
    Helm,
    Object,
    Refused,
    changed,
    chart_of,
    differences,
    id_of,
    made,
    manifest,
    real_helm,
    rendered,
    wanted,
)
from stand_in_client import Client

from stoker.spec import Mode, load, loads
from stoker.testing.kubernetes import ApiServer, api_server

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


at_length = pytest.mark.helm


@pytest.fixture(scope="module")
def helm() -> Iterator[Helm]:
    with real_helm() as found:
        yield found


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart of the defaults."""
    return chart_of(loads(""), tmp_path_factory.mktemp("defaults"))


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with api_server() as found:
        yield found


@pytest.fixture
def config(api: ApiServer, tmp_path: Path) -> Path:
    return api.kubeconfig(tmp_path / "config")


def guide_values() -> Any:
    return yaml.safe_load(GUIDE.read_text())


def make_namespace(api: ApiServer, name: str) -> None:
    with Client(api) as client:
        named = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        assert client.ask("POST", "/api/v1/namespaces", named)[0] == 201


class TestLint:
    def test_the_chart_of_the_defaults_has_no_warning(self, helm: Helm, usual: Path) -> None:
        assert helm.lint(usual) == [1]  # it has no icon

    @at_length
    @pytest.mark.parametrize("name", ["platform", "guide-values", "everything"])
    @pytest.mark.parametrize("mode", ["karpenter", "auto", "hybrid"])
    def test_those_of_the_examples_have_none(self, helm: Helm, tmp_path: Path, name: str, mode: Mode) -> None:
        assert helm.lint(chart_of(load(EXAMPLES / f"{name}.yaml"), tmp_path / "c", mode)) == [1]

    def test_lint_says_that_a_template_is_broken(self, helm: Helm, usual: Path, tmp_path: Path) -> None:
        """Or it would say nothing of templates at all."""
        chart = shutil.copytree(usual, tmp_path / "broken")
        (chart / "templates" / "broken.yaml").write_text("{{ .Values.keda.pollingInterval.seconds }}\n")
        assert helm.lint(chart) == [1, 3]


class TestInstall:
    def test_objects_and_changed_live_values_are_what_render_writes(
        self, helm: Helm, usual: Path, api: ApiServer, config: Path
    ) -> None:
        assert helm.install(usual, config)["status"] == "deployed"
        assert differences(made(api), wanted(loads(""))) == []
        assert helm.upgrade(usual, config, LIVE)["status"] == "deployed"
        assert differences(made(api), wanted(changed(usual, LIVE))) == []
        assert differences(manifest(api, revision=2), rendered(changed(usual, LIVE))) == []

    @at_length
    @pytest.mark.parametrize("mode", ["karpenter", "auto", "hybrid"])
    def test_the_guide_s_file_is_installed_as_it_is(
        self, helm: Helm, tmp_path: Path, api: ApiServer, config: Path, mode: Mode
    ) -> None:
        chart = chart_of(load(GUIDE), tmp_path / "c", mode)
        assert helm.install(chart, config, guide_values())["status"] == "deployed"
        assert differences(made(api), wanted(load(GUIDE), mode)) == []
        assert differences(manifest(api), rendered(load(GUIDE), mode)) == []
        helm.upgrade(chart, config, LIVE)
        assert differences(made(api), wanted(changed(chart, LIVE))) == []
        helm.upgrade(chart, config, {}, reset_values=True)
        assert differences(made(api), wanted(load(GUIDE), mode)) == []

    @at_length
    def test_client_side_as_helm_3_does(self, helm: Helm, usual: Path, api: ApiServer, config: Path) -> None:
        helm.install(usual, config, server_side_apply=False)
        assert differences(made(api), wanted(loads(""))) == []

    @at_length
    def test_a_kind_that_the_chart_defines_itself_comes_with_the_next_upgrade(
        self, helm: Helm, tmp_path: Path, api: ApiServer, config: Path
    ) -> None:
        """kro makes AIInferenceStack of a definition in the chart."""
        platform = load(EXAMPLES / "everything.yaml")
        chart = chart_of(platform, tmp_path / "c")
        make_namespace(api, "argocd")  # Argo CD's own
        assert "When kro has made AIInferenceStack" in helm.install(chart, config)["notes"]
        expected = wanted(platform)
        later = [each for each in expected if each[1] == "AIInferenceStack"]
        assert expected.keys() - made(api).keys() == set(later)
        helm.upgrade(chart, config)
        assert differences(made(api), expected) == []

    @at_length
    def test_nothing_is_left_but_what_others_made(self, helm: Helm, usual: Path, api: ApiServer, config: Path) -> None:
        before = {id_of(each) for each in api.objects()}
        helm.install(usual, config)
        helm.uninstall(config)
        assert {id_of(each) for each in api.objects()} - before == set()


class TestNamespace:
    """The release's record in the namespace that the chart makes."""

    @at_length
    def test_helm_makes_it_and_the_chart_takes_it(self, helm: Helm, usual: Path, api: ApiServer, config: Path) -> None:
        helm.install(usual, config, namespace="agentic-ai", create_namespace=True)
        assert differences(made(api), wanted(loads(""))) == []

    @at_length
    def test_one_that_is_there_has_to_be_taken(self, helm: Helm, usual: Path, api: ApiServer, config: Path) -> None:
        make_namespace(api, "agentic-ai")
        with pytest.raises(Refused, match="invalid ownership metadata"):
            helm.install(usual, config, namespace="agentic-ai")
        helm.install(usual, config, namespace="agentic-ai", take_ownership=True)
        assert differences(made(api), wanted(loads(""))) == []


class TestRefusals:
    def test_the_guide_s_file_for_the_chart_of_the_defaults(
        self, helm: Helm, usual: Path, api: ApiServer, config: Path
    ) -> None:
        with pytest.raises(Refused) as refused:
            helm.install(usual, config, guide_values())
        assert str(refused.value).partition("computed from them:\n")[2].splitlines() == [
            "  global.observability.cloudwatch is true; this chart was rendered for false, which is fixed",
            "  keda.scalers.cloudwatch is true; this chart was rendered for false, which is fixed",
            "  keda.scalers.sqs is true; this chart was rendered for false, which is fixed",
            '  training.checkpointing.s3Bucket is "agentic-ai-checkpoints"; this chart was rendered for null, '
            "which is fixed",
            "  training.enabled is true; this chart was rendered for false, which is fixed",
            "Render a chart for them: stoker render --helm -f YOUR-VALUES.yaml -o CHART (README.md of the chart lists "
            "the keys that may be changed without)",
        ]
        assert made(api) == {}

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"keda": {"cooldownPeriod": 0}}, "keda.cooldownPeriod is 0; this chart was rendered for 300, and takes "),
            ({"keda": None}, "keda is null; this chart was rendered for {"),
            ({"karpenter": {"image": None}}, "and takes other text, not null"),
            ({"karpenter": {"image": "bottlerocket@v1.55.0"}}, "and takes text that matches ^al2023@v20"),
            ({"global": {"images": {"tag": "latest"}}}, "and takes no text that matches (^|:)latest$"),
            ({"llm": {"inference": {"image": "vllm"}}}, "and takes text that matches ^"),
            ({"llm": {"models": {"extra": {}}}}, "llm.models.extra is {}; this chart was rendered for null, which"),
            ({"keda": {"pollingIntervall": 5}}, "at '/keda': additional properties 'pollingIntervall' not allowed"),
            ({"keda": {"pollingInterval": 2.5}}, "at '/keda/pollingInterval': got number, want integer"),
        ],
    )
    def test_a_value_that_objects_were_computed_from(
        self, helm: Helm, usual: Path, api: ApiServer, config: Path, values: Object, said: str
    ) -> None:
        with pytest.raises(Refused, match=re.escape(said)):
            helm.install(usual, config, values)
        assert made(api) == {}
