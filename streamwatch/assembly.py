"""From the configuration to the parts that watch and scan share: an embedder, and the settings of the decision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from streamwatch.change.decision import ChangeSettings
from streamwatch.change.memory import Memory
from streamwatch.config import ChangeConfig, Config
from streamwatch.embedding import Embedder, EmbedderIdentity
from streamwatch.embedding.choose import AUTO, Choice
from streamwatch.embedding.networks import shipped_threshold
from streamwatch.errors import UsageError
from streamwatch.events.pictures import StatePictures
from streamwatch.events.store import network_choice
from streamwatch.pipeline import CameraPipeline, new_id
from streamwatch.records import Grid

_SHARED = 0.02
"""Share of the threshold within which a region's remembered vectors are kept as one."""


def kept_choice(config: Config) -> Choice | None:
    """What `network: auto` chose for this data folder once, and stays with; None where there is nothing to keep.

    Raises:
        OutputError: The folder's network.json is damaged.
    """
    kept = network_choice(config.data_dir) if config.network == AUTO and config.weights is None else None
    if kept is None:
        return None
    reason = f"{kept['network']}: chosen for {config.data_dir} before"
    return Choice(network=kept["network"], weights=kept.get("weights"), reason=reason)


def change_settings(change: ChangeConfig, identity: EmbedderIdentity) -> ChangeSettings:
    """The decision's settings for vectors of this kind.

    Raises:
        UsageError: No threshold is given, and none is shipped for these vectors.
    """
    threshold = change.threshold
    if threshold is None:
        threshold = shipped_threshold(identity)
    if threshold is None:
        raise UsageError(
            f"no threshold is shipped for {identity.network} {identity.layer} with {identity.grid.rows}×"
            f"{identity.grid.columns} regions{'' if identity.unit_length else ' of raw vectors'}: "
            "give one (change.threshold in the configuration, --threshold on the command line)"
        )
    settings = ChangeSettings(
        threshold=threshold,
        confirm_samples=change.confirm.min_samples,
        confirm_s=change.confirm.min_s or None,
        cooldown_s=change.cooldown,
        remember=change.remember,
        recent=change.recent,
        announce_first=change.announce_first,
    )
    return replace(settings, min_regions=1) if identity.grid == Grid(1, 1) else settings


def new_memory(change: ChangeConfig, identity: EmbedderIdentity) -> Memory:
    """An empty memory of the right size.

    Raises:
        UsageError: No threshold for these vectors.
    """
    recent = change.remember == "recent"
    # What is shared must be far nearer than the threshold: else a state could be new and yet not be stored, for ever.
    shared = _SHARED * change_settings(change, identity).threshold
    return Memory(
        regions=identity.grid.regions,
        dimensions=identity.dimensions,
        max_states=change.recent if recent else change.max_states,
        # The last samples are few, and each is compared with as it was.
        epsilon_sq=0.0 if recent else shared,
        # Raw numbers of VGG's layers come near to half precision's largest.
        dtype=np.float16 if identity.unit_length else np.float32,
    )


def new_pipeline(
    camera: str,
    *,
    change: ChangeConfig,
    embedder: Embedder,
    memory: Memory,
    pictures: Path,
    jpeg_quality: int,
    zones: tuple[tuple[tuple[float, float], ...], ...] = (),
    masks: tuple[tuple[tuple[float, float], ...], ...] = (),
    new_id: Callable[[], str] = new_id,
) -> CameraPipeline:
    """One camera's pipeline.

    Raises:
        UsageError: No threshold for these vectors.
        OutputError: The pictures' folder cannot be written.
    """
    return CameraPipeline(
        camera,
        settings=change_settings(change, embedder.identity),
        identity=embedder.identity,
        memory=memory,
        pictures=StatePictures(pictures, quality=jpeg_quality),
        zones=zones,
        masks=masks,
        new_id=new_id,
    )
