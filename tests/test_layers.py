"""Each outside library is imported only in its home, and a command starts without what it does not need.

The homes stand in pyproject.toml, beside each dependency: `"numpy>=2",  # nn, engine: why`.
"""

import ast
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "stoker"

COMES_WITH = {"pydantic_core": "pydantic", "mcp_types": "mcp", "referencing": "jsonschema"}
# Where the name that is imported is not that of the distribution.
IMPORTED_AS = {"pillow": "PIL", "prometheus-client": "prometheus_client"}
IMPORTED_AS |= {"python-multipart": "python_multipart", "pyyaml": "yaml", "common-expression-language": "cel"}


def homes() -> dict[str, set[str]]:
    """Imported name -> the packages of Stoker that may import it."""
    text = (ROOT / "pyproject.toml").read_text()
    listed = text[text.index("dependencies = [") : text.index("\n]\n", text.index("dependencies = ["))]
    found = {}
    for line in listed.splitlines()[1:]:
        match = re.fullmatch(r'    "([a-z0-9-]+)[^"]*", +# ([a-z, ]+?)(?:: .*)?', line)
        assert match, f"this dependency does not name its home: {line}"
        found[IMPORTED_AS.get(match[1], match[1])] = {each.strip() for each in match[2].split(",")}
    extras = {
        "torch": {"nn", "train"},
        "jinja2": {"train"},
        "huggingface_hub": {"train"},
        "mlflow": {"train"},
        "pyarrow": {"meter"},
        "boto3": {"aws"},
        "numba": {"simulate"},
        "aiosqlite": {"agents"},
        "langchain_core": {"agents"},
        "langgraph": {"agents"},
        "psycopg": {"agents"},
        "psycopg_pool": {"agents"},
        "mcp": {"agents"},
        "httpx2": {"agents", "kubernetes"},
        "lightkube": {"kubernetes"},
        "jsonschema": {"agents"},
        "opentelemetry": {"telemetry"},
        "pynvml": {"telemetry"},
    }
    return {**found, **extras, "botocore": {"aws"}}


def imports_of(path: Path) -> set[str]:
    """The top names that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def packages_by_library() -> dict[str, set[str]]:
    users: defaultdict[str, set[str]] = defaultdict(set)
    for path in SOURCE.rglob("*.py"):
        package = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for name in imports_of(path) - {"stoker"} - sys.stdlib_module_names:
            users[name].add(package)
    return dict(users)


def test_each_library_is_imported_only_where_it_is_at_home() -> None:
    allowed = homes()
    strays = {
        f"{name} in {package}"
        for name, users in packages_by_library().items()
        for package in users - {"testing"} - allowed.get(COMES_WITH.get(name, name), set())
    }
    assert not strays, f"{sorted(strays)}; the homes are: {allowed}"


def test_every_home_is_lived_in() -> None:
    users = packages_by_library()
    by_name = {"httptools"}  # in uvicorn's configuration
    empty = {
        f"{name} in {package}"
        for name, packages in homes().items()
        for package in packages - users.get(name, set())
        if name not in by_name and package != "train"
    }
    assert not empty, f"{sorted(empty)}: take it out of pyproject.toml"


def test_the_command_line_starts_without_what_most_commands_do_not_need() -> None:
    script = "import json, sys, stoker.cli; print(json.dumps([name for name in sys.modules if '.' not in name]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    heavy = {"numpy", "torch", "starlette", "uvicorn", "sqlalchemy", "redis", "pydantic", "PIL", "openai"}
    heavy |= {"langgraph", "mcp", "opentelemetry"}
    assert heavy & set(json.loads(done.stdout)) == set()
