"""Objects as templates of Helm: what is live is an expression, everything else is itself, `{{` included."""

import json
import re
import textwrap
from collections.abc import Collection, Mapping
from typing import Any

from stoker.manifests.writing import to_yaml
from stoker.render.chart_live import Bounds, LiveKey, Path
from stoker.render.chart_probing import Expression, Place, PlatformDigest, Probed, Ref, name_of
from stoker.render.facts import PLATFORM_CONFIG
from stoker.render.items import Resource
from stoker.spec.yaml import dump as yaml_text

HEAD = "# Made by `stoker render --helm`; change platform.yaml and render again.\n"
_WIDTH = 110
_IDENTIFIER = re.compile("[A-Za-z_][A-Za-z0-9_]*")

_INCLUDED = '{{ include "stoker.platform" . | trimSuffix "\\n" | indent 4 }}'
_DIGEST = '{{ include "stoker.platform" . | sha256sum | toJson }}'

# How `stoker.spec` writes text: what it would read as something else is in double quotes, and what other readers would
# in single ones. Of text with no other characters than bounds let through; RE2.
_NUMBER = r"[-+]?([0-9][0-9_]*|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)|0x[0-9a-fA-F]+|0o[0-7]+"
_WORD = "|".join(
    [f"{w}|{w.capitalize()}|{w.upper()}" for w in ("null", "true", "false", "yes", "no", "on", "off")]
    + [r"~|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"]
)
DOUBLE_QUOTED = f"^({_NUMBER}|{_WORD})$"
_INDICATOR = r"^[@%*,]|^---|^\.\.\.|^[-?]( |$)|:( |$)|^=$"
_ELSEWHERE = "|".join(
    (
        r"[-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?|\.[0-9][0-9_]*([eE][-+][0-9]+)?",  # floats of YAML 1.1
        r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?",  # in base 60
        r"[-+]?0b[01_]+|[-+]?0x[0-9a-fA-F_]+|[-+]?0[0-7_]+",
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}",  # a date
        r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt]| +)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]*)?"
        r"( *(Z|[-+][0-9]{1,2}(:[0-9]{2})?))?",
    )
)
SINGLE_QUOTED = f"{_INDICATOR}|^({_ELSEWHERE})$"

HELPERS = f"""\
{{{{- /* Text as a value of platform.yaml, quoted as Stoker quotes it. */ -}}}}
{{{{- define "stoker.text" -}}}}
{{{{- if kindIs "invalid" . -}}}}null
{{{{- else if regexMatch `{DOUBLE_QUOTED}` . -}}}}"{{{{ . }}}}"
{{{{- else if regexMatch `{SINGLE_QUOTED}` . -}}}}'{{{{ . }}}}'
{{{{- else -}}}}{{{{ . }}}}
{{{{- end -}}}}
{{{{- end -}}}}
"""

CHECK = """\
{{- /* Fails where a value differs from what the objects were computed for, and is not one that templates put in. */ -}}
{{- define "stoker.check" -}}
{{- $rendered := .Files.Get "files/values.json" | fromJson -}}
{{- $live := .Files.Get "files/live.json" | fromJson -}}
{{- $found := include "stoker.differences" (list "" (.Values | toJson | fromJson) $rendered $live) -}}
{{- if $found -}}
{{- printf "these values are not those that this chart was rendered for, and its objects were computed from them:%s\\n\\
Render a chart for them: stoker render --helm -f YOUR-VALUES.yaml -o CHART (README.md of the chart lists the keys \\
that may be changed without)" $found | fail -}}
{{- end -}}
{{- end -}}

{{- /* A line for each value that may not be as it is. Of: path, value, value rendered for, bounds by live path. */ -}}
{{- define "stoker.differences" -}}
{{- $path := index . 0 -}}
{{- $value := index . 1 -}}
{{- $rendered := index . 2 -}}
{{- $live := index . 3 -}}
{{- if and (kindIs "map" $value) (kindIs "map" $rendered) -}}
{{- range $key, $inner := $rendered -}}
{{- $below := ternary $key (printf "%s.%s" $path $key) (empty $path) -}}
{{- include "stoker.differences" (list $below (index $value $key) $inner $live) -}}
{{- end -}}
{{- range $key, $inner := $value -}}
{{- if not (hasKey $rendered $key) -}}
{{- $below := ternary $key (printf "%s.%s" $path $key) (empty $path) -}}
{{- include "stoker.differences" (list $below $inner nil $live) -}}
{{- end -}}
{{- end -}}
{{- else if ne (toJson $value) (toJson $rendered) -}}
{{- $must := "which is fixed" -}}
{{- if hasKey $live $path -}}
{{- $must = include "stoker.must" (list $value (index $live $path)) -}}
{{- end -}}
{{- if $must -}}
{{- printf "\\n  %s is %s; this chart was rendered for %s, %s" $path (toJson $value | trunc 120) \\
(toJson $rendered | trunc 120) $must -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* What a live value would have to be, or nothing where it is. Of: the value, its bounds. */ -}}
{{- define "stoker.must" -}}
{{- $value := index . 0 -}}
{{- $bounds := index . 1 -}}
{{- if hasKey $bounds "most" -}}
{{- $is := and (regexMatch "^[0-9]+$" (toJson $value)) (ge (float64 $value) (float64 $bounds.least)) \\
(le (float64 $value) (float64 $bounds.most)) -}}
{{- if not $is -}}and takes whole numbers from {{ $bounds.least | toJson }} to {{ $bounds.most | toJson }}{{- end -}}
{{- else if kindIs "invalid" $value -}}
{{- if not $bounds.mayBeNull -}}and takes other text, not null{{- end -}}
{{- else if not (kindIs "string" $value) -}}and takes text
{{- else if not (regexMatch $bounds.pattern $value) -}}and takes text that matches {{ $bounds.pattern }}
{{- else if and $bounds.never (regexMatch $bounds.never $value) -}}and takes no text that matches {{ $bounds.never }}
{{- end -}}
{{- end -}}
""".replace("\\\n", "")


def escaped(text: str) -> str:
    """Text that a template writes as it is."""
    return text.replace("{{", '{{ "{{" }}')


def bounds(key: LiveKey) -> dict[str, Any]:
    """As `stoker.must` reads them."""
    said: Bounds = key.bounds
    if said.most is not None:
        return {"least": said.least, "most": said.most}
    return {"pattern": said.pattern, "never": said.never or "", "mayBeNull": key.value is None}


def document(probed: Probed, resource: Resource) -> str:
    """One object, with the mark before it."""
    name = name_of(resource.object)
    text = _filled(probed, resource.object, (name,), to_yaml)
    comment = "" if name in probed.stale else _comment(resource.comment)
    whole = f"---\n{escaped(comment)}{text}"
    condition = _condition(probed, resource)
    return whole if condition is None else f"{{{{- if {condition} }}}}\n{whole}{{{{- end }}}}\n"


def _condition(probed: Probed, resource: Resource) -> str | None:
    """When the object is there, if not always."""
    path = probed.only_null.get(name_of(resource.object))
    if path is not None:
        return f"not {reference(path)}"
    kind = f"{resource.object['apiVersion']}/{resource.object['kind']}"
    # Helm looks up all kinds before it makes the first object; this one is there once kro has seen its definition.
    return f".Capabilities.APIVersions.Has {_literal(kind)}" if kind in defined_kinds(probed) else None


def defined_kinds(probed: Probed) -> set[str]:
    """Kinds that kro makes of the chart's own definitions, as `kro.run/v1alpha1/AIInferenceStack`."""
    objects = [each.object for each in probed.rendered.resources]
    schemas = [each["spec"]["schema"] for each in objects if each["kind"] == "ResourceGraphDefinition"]
    return {f"{each.get('group', 'kro.run')}/{each['apiVersion']}/{each['kind']}" for each in schemas}


def is_template(text: str) -> bool:
    """Whether values have a say in it."""
    return ".Values" in text or "stoker.platform" in text


def platform(probed: Probed) -> str:
    """The helper that writes platform.yaml of the ConfigMap."""
    text = _filled(probed, probed.rendered.platform, (PLATFORM_CONFIG,), yaml_text)
    return f'{{{{- define "stoker.platform" -}}}}\n{text}{{{{ end -}}}}\n'


def reference(path: Path) -> str:
    """The value as an operand of an expression."""
    if all(_IDENTIFIER.fullmatch(each) for each in path):
        return "." + ".".join(("Values", *path))
    return "(index .Values " + " ".join(_literal(each) for each in path) + ")"


def _filled(probed: Probed, tree: Mapping[str, Any], place: Place, write: Any) -> str:
    """The tree as YAML, in which a mark stands for each expression until all else is escaped."""
    marks: dict[str, str] = {}

    def marked(part: Any, at: Place) -> Any:
        found = probed.expressions.get(at)
        if found is not None or (part is probed.rendered.text and at[0] != PLATFORM_CONFIG):
            mark = f"stoker-live-{len(marks)}-value"
            marks[mark] = f"|\n{_INCLUDED}" if found is None else _action(found, probed, at[0] == PLATFORM_CONFIG)
            return mark
        if isinstance(part, Mapping):
            return {key: marked(value, (*at, key)) for key, value in part.items()}
        if isinstance(part, list):
            return [marked(value, (*at, index)) for index, value in enumerate(part)]
        return part

    text = escaped(write(marked(tree, place)))
    return re.sub("stoker-live-[0-9]+-value", lambda match: marks[match[0]], text)


def _action(found: Expression | PlatformDigest, probed: Probed, in_platform: bool) -> str:
    if isinstance(found, PlatformDigest):
        return _DIGEST
    numbers = {key.path for key in probed.keys if key.bounds.most is not None}
    alone = found.parts[0] if len(found.parts) == 1 else None
    if isinstance(alone, Ref):
        if alone.path in numbers:
            return f"{{{{ {reference(alone.path)} | toJson{' | quote' if found.is_text else ''} }}}}"
        if in_platform:
            return f'{{{{ include "stoker.text" {reference(alone.path)} }}}}'
    return f"{{{{ {_text(found, numbers)} | toJson }}}}"


def _text(found: Expression, numbers: Collection[Path]) -> str:
    operands = [_operand(part, numbers) for part in found.parts if isinstance(part, Ref)]
    form = "".join("%s" if isinstance(part, Ref) else part.replace("%", "%%") for part in found.parts)
    return operands[0] if form == "%s" else f"printf {_literal(form)} {' '.join(operands)}"


def _operand(ref: Ref, numbers: Collection[Path]) -> str:
    if ref.path in numbers:
        return f"({reference(ref.path)} | toJson)"
    if ref.when_null is not None:
        return f"({reference(ref.path)} | default {_literal(ref.when_null)})"
    return reference(ref.path)


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _comment(text: str) -> str:
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, _WIDTH) or [""]]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)
