"""What a script in a manifest says of names and of the metadata service."""

import ast
import re
import warnings
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import Script, scripts
from stoker.manifests.objects import is_open

IMDS = re.compile(r"169\.254\.169\.254|\[?fd00:ec2::254\]?")
OTHER_CLOUDS = re.compile(r"metadata-flavor|metadata:\s*true|/metadata/instance|computemetadata", re.IGNORECASE)
"""Google's and Azure's services have the same address."""


def judged(cluster: Cluster) -> Iterator[Script]:
    """The scripts that are there in full: those that something fills in later are left out."""
    for script in scripts(cluster):
        if not is_open(script.manifest, script.text) and "{{" not in script.text:
            yield script


def python(cluster: Cluster) -> Iterator[tuple[Script, ast.Module]]:
    """The Python scripts that parse."""
    for script in judged(cluster):
        if script.language == "python":
            tree = parsed(script.text)
            if isinstance(tree, ast.Module):
                yield script, tree


def parsed(text: str) -> ast.Module | SyntaxError:
    """The tree, or why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in their text is no warning of ours
            return ast.parse(text)
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte; nesting without end
        return SyntaxError(str(error) or "nested too deeply")
