"""Go on from the newest checkpoint that is whole: all processes from the same one."""

from dataclasses import dataclass
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.registry.heads import Head
from stoker.registry.manifests import Manifest
from stoker.registry.runs import NoneWhole, RunStore, Skipped
from stoker.registry.shards import Damaged
from stoker.train.state import Held, restore
from stoker.train.world import World


@dataclass(frozen=True)
class Restored:
    """`manifest` None: the run begins."""

    manifest: Manifest | None
    skipped: tuple[Skipped, ...]


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
            _is_the_same_run(manifest, facts)
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


_WORDS = {
    "data_digest": "the data has changed since the run began (or how it is read: see dataset)",
    "base_digest": "the weights that it began from have changed",
}


def _is_the_same_run(manifest: Manifest, facts: dict[str, Any]) -> None:
    for name, words in _WORDS.items():
        before, now = manifest.state.get(name), facts.get(name)
        if before != now:
            raise InvalidInput(
                f"{words}: {str(before)[:12]} then, {str(now)[:12]} now; going on would mix the two",
                param=name.removesuffix("_digest"),
                hint="put back what was there, or begin anew with --fresh or under another name",
            )
