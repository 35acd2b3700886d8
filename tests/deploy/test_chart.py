"""`stoker render --helm` as far as it can be seen without Helm: what is live, what is fixed, what the files say."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker import __version__
from stoker.render import chart_live, chart_pages, chart_probing, chart_templates
from stoker.render.chart import render_chart
from stoker.render.run import render
from stoker.spec import load, loads, plain
from stoker.spec.yaml import dump

EXAMPLES = Path(__file__).parents[2] / "examples"
GOLDEN = Path(__file__).parents[1] / "render" / "golden"

SMALL = """\
global: {images: {registry: registry.example.com/own, tag: 1.0.0}, observability: {enabled: false}}
karpenter: {enabled: false}
composition: {ack: {enabled: false}}
edge: {host: api.example.com}
agents: {definitions: {one: {instructions: 'Say {{ name }}.'}}}
llm:
  models:
    general: {replicas: {min: 1, max: 4}}
    code: {replicas: {min: 1, max: 4}}
    idle: {replicas: {min: 0, max: 2}}
"""


@cache
def chart(text: str = SMALL) -> dict[str, str]:
    return render_chart(loads(text))


def live(files: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files["files/live.json"])
    return found


def line(text: str, key: str) -> str:
    (found,) = (each for each in text.splitlines() if each.strip().startswith(f"{key}:"))
    return found.strip()


class TestLiveValues:
    def test_a_word_is_put_in_where_it_stands(self) -> None:
        files = chart()
        registry, tag = ".Values.global.images.registry", ".Values.global.images.tag"
        assert line(files["templates/gateway/gateway.yaml"], "image") == (
            f'image: {{{{ printf "%s/gateway:%s" {registry} {tag} | toJson }}}}'
        )
        assert line(files["templates/edge/ingress.yaml"], "- host") == "- host: {{ .Values.edge.host | toJson }}"

    def test_keys_with_the_same_room_are_told_from_each_other(self) -> None:
        """Both models have 1 to 4 replicas, so that there are few numbers to try either with."""
        for name in ("general", "code"):
            written = line(chart()[f"templates/scaling/model-{name}.yaml"], "minReplicaCount")
            assert written == f"minReplicaCount: {{{{ .Values.llm.models.{name}.replicas.min | toJson }}}}"

    def test_what_is_at_zero_is_fixed_since_other_fields_go_with_it(self) -> None:
        keys = live(chart())
        assert keys["llm.models.general.replicas.min"] == {"least": 1, "most": 3}
        assert "llm.models.idle.replicas.min" not in keys

    def test_the_most_replicas_are_fixed_where_nodes_are_counted_by_them(self) -> None:
        assert "llm.models.general.replicas.max" in live(chart())
        platform = loads(SMALL.replace("karpenter: {enabled: false}", ""))
        tried = chart_live.candidates(platform, plain(platform))
        assert ("llm", "models", "general", "replicas", "max") not in [key.path for key in tried]

    def test_platform_yaml_is_a_template_and_its_digest_is_computed_by_helm(self) -> None:
        files = chart()
        assert (
            line(files["templates/_platform.tpl"], "tag")
            == 'tag: {{ include "stoker.text" .Values.global.images.tag }}'
        )
        digest = line(files["templates/gateway/gateway.yaml"], "stoker.dev/platform-sha256")
        assert digest.endswith('{{ include "stoker.platform" . | sha256sum | toJson }}')

    def test_an_object_that_goes_when_a_key_is_written_is_conditional(self) -> None:
        text = chart("")["templates/aws/repositories.yaml"]
        assert text.count("{{- if not .Values.global.images.registry }}\n---\n") == 2
        assert live(chart(""))["global.images.registry"]["mayBeNull"] is True
        assert live(chart())["global.images.registry"]["mayBeNull"] is False

    def test_a_key_of_which_a_name_is_computed_is_fixed(self) -> None:
        """The Job that fills the bucket is called by what it runs, so that a change makes another."""
        platform = loads("llm: {inference: {cache: {kind: s3, bucket: some-weights}}}")
        search = chart_probing._Search(chart_probing._rendered(chart_probing._explicit(platform, "ack"), "ack"))
        keys = chart_live.candidates(platform, search.rendered.values)
        search.try_all(
            [key for key in keys if key.path in (("llm", "inference", "image"), ("keda", "pollingInterval"))]
        )
        assert [key.path for key in search.keys] == [("keda", "pollingInterval")]

    def test_templates_make_of_third_values_what_render_makes(self) -> None:
        """None of them is one that the keys were tried with."""
        found = chart_probing.probe(load(EXAMPLES / "platform.yaml"), "ack")
        values = {key.path: _third(key) for key in found.keys}
        search = chart_probing._Search(found.rendered)
        search.found = chart_probing._Found(dict(found.expressions), dict(found.only_null))
        changed = search._changed(values)
        assert changed is not None
        assert chart_probing._leaves(changed) == search._wanted(values)
        assert THIRD.keys() < {".".join(path) for path in values}


THIRD = {
    "global.images.registry": "third.example.net",
    "global.images.tag": "2026.11",
    "global.observability.prometheusUrl": "http://third.monitoring.svc:9999/x",
    "karpenter.image": "al2023@v20290101",
    "karpenter.protectedHours.schedule": "30 7 1 * *",
    "karpenter.protectedHours.duration": "13h",
    "karpenter.protectedHours.nodes": "33%",
    "llm.inference.image": "third.example.net/vllm:v3",
}


def _third(key: chart_live.LiveKey) -> Any:
    if key.bounds.most is not None:
        return (key.bounds.least or 0) + (key.bounds.most - (key.bounds.least or 0)) // 3
    return THIRD[".".join(key.path)]


LATEST = "(^|:)latest$"
PINNED = "^[a-z0-9][A-Za-z0-9._/:@-]*(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9._-]*)$"


class TestRefusal:
    """What the chart refuses. That Helm does so is shown in test_chart_helm.py, where there is Helm."""

    def test_a_value_that_differs_fails_the_installation(self) -> None:
        check = chart()["templates/_check.tpl"]
        found = re.findall(r"^\{\{- if \$found -\}\}\n(.*)\n\{\{- end -\}\}\n\{\{- end -\}\}$", check, re.MULTILINE)
        assert len(found) == 1
        assert found[0].startswith('{{- printf "these values are not those that this chart was rendered for, ')
        assert found[0].endswith('" $found | fail -}}')

    def test_no_image_may_become_one_whose_tag_moves(self) -> None:
        keys = live(chart())
        assert keys["global.images.tag"] == {"pattern": chart_live.PLAIN, "never": LATEST, "mayBeNull": False}
        assert keys["llm.inference.image"] == {"pattern": PINNED, "never": LATEST, "mayBeNull": False}
        assert (
            "{{- else if and $bounds.never (regexMatch $bounds.never $value) -}}and takes no text that matches "
            in chart()["templates/_check.tpl"]
        )

    def test_nor_may_that_of_one_model_or_of_training(self) -> None:
        text = (
            "{llm: {models: {one: {serving: {image: 'example.com/vllm:v1'}}}}, training: {image: 'example.com/t:v1'}}"
        )
        platform = loads(text)
        keys = chart_live.candidates(platform, plain(platform))
        bounds = chart_live.Bounds(pattern=PINNED, never=LATEST)
        assert {".".join(key.path): key.bounds for key in keys if key.path[-1] == "image"} == {
            "karpenter.image": chart_live.Bounds(pattern="^al2023@v20(2[6-9]|[3-9][0-9])[0-9]{4}$"),
            "llm.inference.image": bounds,
            "llm.models.one.serving.image": bounds,
            "training.image": bounds,
        }

    @pytest.mark.parametrize(
        ("text", "is_refused"), [("latest", True), ("example.com/vllm:latest", True), ("latest-1", False)]
    )
    def test_latest_is_refused_as_a_tag_alone_and_at_the_end_of_an_image(self, text: str, is_refused: bool) -> None:
        assert (re.search(live(chart())["global.images.tag"]["never"], text) is not None) == is_refused


class TestText:
    def test_braces_of_others_are_escaped(self) -> None:
        assert 'instructions: Say {{ "{{" }} name }}.\n' in chart()["templates/_platform.tpl"]
        rules = chart("")["templates/monitoring/rules.yaml"]
        assert 'summary: Tasks wait for {{ "{{" }} $labels.model }} and none runs.\n' in rules

    @pytest.mark.parametrize(
        "text",
        ["1.2", "1.20.3", "20261127", "2026-11-27", "true", "0123", "1:30", "@at", "=", "-", "a:", "*/5 1 * * *"],
    )
    def test_a_value_is_quoted_as_stoker_quotes_it(self, text: str) -> None:
        assert _quoted(text) == dump({"key": text})[len("key: ") : -1]

    @given(st.text("0123456789abceflnorstuyxTZN.:-_+%@=/", min_size=1, max_size=12))
    @settings(max_examples=400, deadline=None)
    def test_so_is_any_text_that_may_be_a_live_value(self, text: str) -> None:
        assert _quoted(text) == dump({"key": text})[len("key: ") : -1]


def _quoted(text: str) -> str:
    """As the helper `stoker.text` does, by its expressions."""
    for pattern, quote in ((chart_templates.DOUBLE_QUOTED, '"'), (chart_templates.SINGLE_QUOTED, "'")):
        assert f"regexMatch `{pattern}` ." in chart_templates.HELPERS
        if re.search(pattern, text):
            return f"{quote}{text}{quote}"
    return text


class TestFiles:
    def test_chart_yaml_says_which_clusters_it_is_for(self) -> None:
        """A cluster of an older minor version is refused by Helm; one of EKS' own versions is not."""
        assert yaml.safe_load(chart()["Chart.yaml"]) == {
            "apiVersion": "v2",
            "name": "platform",
            "description": "An agentic-AI platform on EKS, from one platform.yaml.",
            "type": "application",
            "version": __version__,
            "appVersion": __version__,
            "kubeVersion": ">=1.30.0-0",
        }

    @pytest.mark.parametrize("text", [SMALL, ""])
    def test_values_yaml_is_a_platform_yaml_of_the_same_objects(self, text: str) -> None:
        assert render(loads(chart(text)["values.yaml"])) == render(loads(text))

    def test_the_mode_that_was_asked_for_is_among_the_values(self) -> None:
        files = render_chart(loads(SMALL), mode="auto")
        assert yaml.safe_load(files["values.yaml"])["global"]["cluster"]["mode"] == "auto"
        assert render(loads(files["values.yaml"])) == render(loads(SMALL), mode="auto")

    def test_the_same_spec_gives_the_same_bytes(self) -> None:
        assert render_chart(loads(SMALL)) == chart()

    def test_each_file_with_values_begins_with_the_check(self) -> None:
        files = {
            name: text for name, text in chart().items() if name.startswith("templates/") and name.endswith(".yaml")
        }
        check = '{{- include "stoker.check" . -}}\n'
        assert files["templates/check.yaml"] == check
        assert [name for name, text in files.items() if ".Values" in text and not text.startswith(check)] == []
        assert json.loads(chart()["files/values.json"]) == yaml.safe_load(chart()["values.yaml"])

    def test_there_is_a_template_for_each_file_of_objects(self) -> None:
        files = chart("")
        manifests = {name for name in render(loads("")) if "/" in name and name.endswith(".yaml")}
        assert {f"templates/{name}" for name in manifests} <= files.keys()

    def test_what_costs_money_by_being_applied_is_left_out_and_named(self) -> None:
        text = "{global: {cluster: {account: '111122223333'}}, composition: {ack: {sagemaker: true}}}"
        rendered = chart_probing._rendered(loads(text), "ack")
        assert [each.file for each in rendered.resources if each.file.startswith("on-demand/")] == []
        assert rendered.left_out == (
            "on-demand/sagemaker-endpoint.yaml",
            "terraform/interruption.tf",
            "terraform/secrets.tf",
        )

    def test_the_schema_knows_every_key_and_no_other(self) -> None:
        from jsonschema import Draft7Validator

        validator = Draft7Validator(json.loads(chart()["values.schema.json"]))
        values = yaml.safe_load(chart()["values.yaml"])
        assert list(validator.iter_errors(values)) == []
        values["keda"]["pollingIntervall"] = 5
        assert [error.message for error in validator.iter_errors(values)] == [
            "Additional properties are not allowed ('pollingIntervall' was unexpected)"
        ]

    def test_readme_names_each_live_key_and_who_has_to_be_there(self) -> None:
        files = chart("")
        for key in live(files):
            assert f"| `{key}` |" in files["README.md"]
        assert "- KEDA\n- Karpenter\n" in files["README.md"]
        assert "and has to run: ACK (ecr, eks, iam), " in files["templates/NOTES.txt"]

    def test_every_group_of_the_examples_has_its_controller(self) -> None:
        own = {"apps", "autoscaling", "batch", "networking.k8s.io", "policy", "rbac.authorization.k8s.io"}
        own |= {"scheduling.k8s.io", "storage.k8s.io", ""}
        groups: set[str] = set()
        for path in GOLDEN.rglob("*.yaml"):
            groups |= set(re.findall(r"^apiVersion: (?:([a-z0-9.-]+)/)?v[0-9a-z]+$", path.read_text(), re.MULTILINE))
        others = {each for each in groups - own if "services.k8s.aws" not in each and not each.startswith("kustomize")}
        assert others - chart_pages._CONTROLLERS.keys() == set()
