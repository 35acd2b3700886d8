"""The objects of a run by their names."""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import holds_open
from stoker.manifests.objects import Manifest


def named(cluster: Cluster) -> Iterator[Manifest]:
    """Those that are applied as they are, under the name that is written; not patches and parts of kustomize."""
    kustomized = {place(each) for each in cluster.of("Kustomization")}
    for manifest in cluster.manifests:
        embedded = manifest.inside is not None and not manifest.inside.kind.endswith("List")
        name = manifest.get("metadata", "name")
        if not isinstance(name, str) or not name or not manifest.kind or embedded:
            continue
        if not holds_open(manifest, [name, manifest.namespace]) and place(manifest) not in kustomized:
            yield manifest


def place(manifest: Manifest) -> str:
    """The folder that it was read from."""
    return manifest.document.file.rpartition("/")[0]
