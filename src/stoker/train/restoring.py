"""Go on from the newest checkpoint that is whole: all processes from the same one."""

from dataclasses import dataclass
from typing import Any

from stoker.registry.heads import Head
from stoker.registry.manifests import Manifest
from stoker.registry.runs import NoneWhole, RunStore, Skipped
from stoker.registry.shards import Damaged
from stoker.train import identity
from stoker.train.state import Held, restore
from stoker.train.world import World


@dataclass(frozen=True)
class Restored:
    """`manifest` None: the run begins."""

    manifest: Manifest | None
    skipped: tuple[Skipped, ...]
    seconds: float | None = None
    """How long it took to go on from it."""


def newest(world: World, store: RunStore, head: Head, tensors: list[Held], facts: dict[str, Any]) -> Restored:
    """Newest first. What any process finds damaged, all skip. `facts`: what the run is (digests of data, base,
    settings). Raises InvalidInput when the checkpoint is of other data, weights or settings; NoneWhole when none is
    whole; Unavailable as it is."""
    skipped: list[Skipped] = []
    for entry in reversed(head.entries):
        manifest, why = None, None
        try:
            manifest = store.manifest(entry)
            restore(store, manifest, tensors)
        except Damaged as damage:
            why = damage.why
        why = world.first_word(why)
        if why is None and manifest is not None:
            identity.compare(manifest.state, facts)
            return Restored(manifest, tuple(skipped))
        skipped.append(Skipped(entry.name, entry.step, why or "damaged"))
    if skipped:
        raise NoneWhole(
            f"none of the {len(skipped)} checkpoints of this run is whole; the newest: {skipped[0].name}: "
            f"{skipped[0].why}",
            hint="nothing was overwritten; `stoker runs verify` says what is wrong with each; --fresh begins anew "
            "beside them",
        )
    return Restored(None, ())
