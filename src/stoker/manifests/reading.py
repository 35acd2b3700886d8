"""Paths and stdin to objects: what is there, what is not whole, what could not be read.

Called by `lint`, `simulate` and `deploy`. Nothing that a file holds makes it raise: what cannot be read is a trouble.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as File

from stoker.manifests.documents import parse
from stoker.manifests.embedded import is_object, manifests_of
from stoker.manifests.objects import Document, Manifest, look
from stoker.manifests.troubles import Trouble

MAX_BYTES = 16 << 20  # etcd takes objects of 1.5 MB; what is larger is no file of manifests
STDIN = "<stdin>"
_ENDINGS = (".yaml", ".yml", ".json")
_PASSED_OVER = ("node_modules", "__pycache__", "vendor")


@dataclass(frozen=True)
class Reading:
    """What was read. `files` are those that hold objects or could not be read; `texts` has the text of each by name."""

    manifests: tuple[Manifest, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    files: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)


def read(paths: Sequence[str], *, stdin: bytes | None = None) -> Reading:
    """All objects of files and folders, in the order given, folders in the order of their names; `-` is `stdin`.

    A folder is searched for *.yaml, *.yml and *.json; in it, files without Kubernetes objects are passed over. Patches
    of a kustomization are no whole objects, and passed over. A chart's templates are one trouble for the chart.
    """
    readings: list[Reading] = []
    seen: set[str] = set()
    for path in paths:
        if path == "-":
            readings.append(read_text(stdin or b"", STDIN, named=True))
        elif os.path.isdir(path):
            readings += [_file(name, named=False) for name in _walk(path) if not _known(name, seen)]
            readings[-1:] = [*readings[-1:], Reading(troubles=tuple(_charts(path)))]
        elif not os.path.exists(path):
            readings.append(_failed("missing", path, "there is no such file or folder"))
        elif not _known(path, seen):
            readings.append(_file(path, named=True))
    return _whole(readings)


def read_text(text: str | bytes, name: str = "<text>", *, named: bool = True) -> Reading:
    """The objects of one text. With `named`, a text without any is a trouble."""
    if len(text) > MAX_BYTES:
        return _too_large(name)
    if isinstance(text, bytes):
        raw = text
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            return _failed("encoding", name, *_not_utf8(raw, error))
    documents, troubles = parse(text, name)
    manifests: list[Manifest] = []
    for document in documents:
        objects, unread = manifests_of(document, text)
        manifests += objects
        troubles += unread
    if not named and not manifests and not any(_looks_like_one(text, trouble) for trouble in troubles):
        return Reading()
    if manifests or (named and not troubles):
        troubles += _no_objects(documents, manifests, name)
    return Reading(tuple(manifests), tuple(troubles), (name,), {name: text})


def _whole(readings: Iterable[Reading]) -> Reading:
    """One reading of many, without what a kustomization patches with."""
    manifests: list[Manifest] = []
    troubles: list[Trouble] = []
    files: list[str] = []
    texts: dict[str, str] = {}
    for each in readings:
        manifests += each.manifests
        troubles += each.troubles
        files += each.files
        texts.update(each.texts)
    partial = {name for manifest in manifests for name in _patches(manifest)}
    kept = [each for each in manifests if not _is_kustomization(each) and _real(each.document.file) not in partial]
    return Reading(tuple(kept), tuple(troubles), tuple(files), texts)


def _is_kustomization(manifest: Manifest) -> bool:
    return manifest.kind in ("Kustomization", "Component") and manifest.group in ("kustomize.config.k8s.io", "")


def _patches(manifest: Manifest) -> list[str]:
    """The files that a kustomization merges into others."""
    if not _is_kustomization(manifest):
        return []
    found = []
    for key in ("patches", "patchesStrategicMerge", "patchesJson6902", "transformers", "generators", "configurations"):
        listed = manifest.get(key)
        for each in listed if isinstance(listed, list) else ():
            path = each if isinstance(each, str) else look(each, "path")
            if isinstance(path, str) and "\n" not in path and "\0" not in path:
                found.append(_real(str(File(manifest.document.file).parent / path)))
    return found


def _real(path: str) -> str:
    return os.path.realpath(path) if "\0" not in path else path


def _known(path: str, seen: set[str]) -> bool:
    """Whether the file was read already, under this name or another."""
    real = _real(path)
    if real in seen:
        return True
    seen.add(real)
    return False


def _walk(folder: str) -> list[str]:
    found = []
    been: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        if _known(place, been):
            folders.clear()  # a link that leads back
            continue
        in_chart = "templates" in folders and "Chart.yaml" in files
        folders[:] = sorted(
            each for each in folders if _is_open(each) and not (in_chart and each in ("templates", "charts", "crds"))
        )
        if in_chart:
            folders[:] = [each for each in folders if each != "ci"]
            files = []
        found += [
            os.path.normpath(os.path.join(place, each))
            for each in files
            if each.endswith(_ENDINGS) and not each.startswith(".")
        ]
    return sorted(found)


def _charts(folder: str) -> list[Trouble]:
    """Charts that have not been rendered: one trouble each."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if _is_open(each))
        if "Chart.yaml" in files and "templates" in folders:
            said = "a Helm chart: what Kubernetes gets is what Helm makes of it, so nothing in it was judged"
            place = os.path.normpath(place)
            file = os.path.join(place, "Chart.yaml")
            found.append(Trouble("template", file, 1, 1, said, f"helm template {place} | stoker lint -"))
            folders[:] = []
    return found


def _is_open(folder: str) -> bool:
    return not folder.startswith(".") and folder not in _PASSED_OVER


def _file(path: str, *, named: bool) -> Reading:
    try:
        if not os.path.isfile(path):
            return _failed("unreadable", path, "this is no file")
        if os.path.getsize(path) > MAX_BYTES:
            return _too_large(path)
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        return _failed("unreadable", path, f"it cannot be read: {error.strerror or error}")
    return read_text(raw, path, named=named)


def _too_large(name: str) -> Reading:
    said = f"more than {MAX_BYTES >> 20} MiB: no file of manifests is that large, and this one was not read"
    return _failed("size", name, said)


def _failed(kind: str, name: str, message: str, line: int = 1, column: int = 1) -> Reading:
    return Reading(troubles=(Trouble(kind, name, line, column, message),), files=(name,))


def _not_utf8(raw: bytes, error: UnicodeDecodeError) -> tuple[str, int, int]:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "this is UTF-16; Kubernetes reads UTF-8, so save it as UTF-8", 1, 1
    start = error.start
    line, column = raw.count(b"\n", 0, start) + 1, start - raw.rfind(b"\n", 0, start)
    return f"byte 0x{raw[start]:02x} is not UTF-8; save the file as UTF-8", line, column


def _looks_like_one(text: str, trouble: Trouble) -> bool:
    """Whether a file that cannot be read, and that nobody named, is likely to be manifests."""
    return trouble.kind in ("aliases", "depth", "encoding", "size") or "apiVersion" in text or "kind:" in text


def _no_objects(documents: list[Document], manifests: list[Manifest], name: str) -> list[Trouble]:
    """What is said of documents that are no objects."""
    found = []
    for each in documents:
        items = each.data if isinstance(each.data, list) else [each.data]
        if not any(is_object(item) for item in items):
            at = each.where(())
            what = (
                "a list" if isinstance(each.data, list) else "a section" if isinstance(each.data, dict) else "a value"
            )
            said = f"{what} without apiVersion and kind is no Kubernetes object, and was not judged"
            found.append(Trouble("not-an-object", name, at.line, at.column, said))
    if not documents and not manifests:
        found.append(Trouble("no-manifests", name, 1, 1, "there are no objects in it"))
    return found
