"""How fast `index` is beside the embedder alone: reading, hashing, decoding and resizing are to overlap the network.

The embedder's own rate is that of pictures which are decoded and resized already; `index` starts from JPEG files. Both
run in one process, in turn. Two sizes of pictures; the real network and, for machines with more to spare for decoding,
a slow stand-in for one: a wait as long as VGG16 takes.

    python bench/index.py [--json] [--quick]
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line sets it

import shutil
from collections.abc import Sequence
from time import perf_counter, sleep

import numpy as np
from _common import BUILD, Check, Outcome, middle, options_of, rounds_in_turn, say, show
from numpy.typing import NDArray

from streamwatch.embedding import Embedder, EmbedderIdentity, load_embedder
from streamwatch.imaging import ArrayPicture, encode_jpeg, load_picture
from streamwatch.offline.features import FeatureExtractor
from streamwatch.offline.gallery import Gallery
from streamwatch.offline.indexing import index
from streamwatch.offline.picture_lists import Item
from streamwatch.records import Picture

SIZES = ((384, 256), (1280, 960))
SLOW_S = 0.15
"""VGG16 to fc7 took 131 to 236 ms a picture on two cores."""


class Waiting:
    """An embedder that takes its time and no core, as one on a GPU."""

    def __init__(self, identity: EmbedderIdentity) -> None:
        self.identity = identity
        self.batch_size = 4

    def embed(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """Zeros, after the time that a slow network takes; the pictures are taken as a network takes them."""
        for picture in pictures:
            picture.rgb(width=224, height=224)
        sleep(SLOW_S * len(pictures))
        grid = self.identity.grid
        return np.ones((len(pictures), grid.regions, self.identity.dimensions), np.float32)


def main() -> int:
    options = options_of(__doc__).parse_args()
    count = 32 if options.quick else 128
    lite0 = load_embedder(network="lite0", layer="features", pooling="mean", unit_length=False)
    outcome = Outcome(
        bench="index",
        claim="index goes at the embedder's own pace",
        settings={"pictures": count, "cores": len(os.sched_getaffinity(0))},
        notes=["Pictures a second, medians of rounds in turn. Lite0 keeps all cores busy by itself."],
    )
    networks: tuple[tuple[str, Embedder, int], ...] = (
        ("lite0", lite0, count),
        ("a network of 150 ms that leaves the cores alone", Waiting(lite0.identity), 16 if options.quick else 24),
    )
    for width, height in SIZES:
        paths = pictures(count, width, height)
        for name, embedder, used in networks:
            extractor = FeatureExtractor(embedder, pooling="mean", unit_length=True)
            ready = [ArrayPicture(load_picture(path).rgb(width=224, height=224)) for path in paths[:used]]
            items = [Item(path) for path in paths[:used]]

            def alone(extractor: FeatureExtractor = extractor, ready: list[ArrayPicture] = ready) -> None:
                for start in range(0, len(ready), 16):
                    extractor.extract(ready[start : start + 16])

            def indexed(extractor: FeatureExtractor = extractor, items: list[Item] = items) -> None:
                path = BUILD / "index.lance"
                shutil.rmtree(path, ignore_errors=True)
                gallery = Gallery.create(path, extractor.identity)
                with gallery.writing():
                    summary = index(items, gallery, extractor)
                assert summary.added == len(items)

            def decoded(paths: Sequence[Item] = items) -> None:
                for item in paths:
                    load_picture(item.path).rgb(width=224, height=224)

            say(f"{name}, {width}×{height}")
            taken = rounds_in_turn(
                {"alone": alone, "indexed": indexed, "decoded": decoded}, rounds=1 if options.quick else 3
            )
            rates = {what: middle([used / value for value in values], digits=1) for what, values in taken.items()}
            outcome.rows.append(
                {
                    "network": name,
                    "pictures": f"{width}×{height}",
                    "embedder alone": rates["alone"],
                    "index": rates["indexed"],
                    "decoding alone, one thread": rates["decoded"],
                    "share": round(rates["indexed"] / rates["alone"], 3),
                }
            )
            outcome.checks.append(
                Check(
                    name=f"index ÷ embedder, {name}, {width}×{height}",
                    value=rates["indexed"] / rates["alone"],
                    target=0.9,
                    at_most=False,
                )
            )
    shutil.rmtree(BUILD / "index.lance", ignore_errors=True)
    show(outcome, as_json=options.json)
    return 0


def pictures(count: int, width: int, height: int) -> list:  # type: ignore[type-arg]
    """JPEG files of blobs and noise, about as large as photos are; made once."""
    import cv2

    folder = BUILD / f"pictures-{width}x{height}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04}.jpg" for number in range(count)]
    started_s = perf_counter()
    for number, path in enumerate(paths):
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        pixels = np.full((height, width, 3), 128, np.float32)
        for cells in (3, 8, 25, 80):
            noise = rng.normal(0, 40, (cells, cells, 3)).astype(np.float32)
            pixels += cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
        pixels += rng.normal(0, 6, pixels.shape)
        path.write_bytes(encode_jpeg(np.clip(pixels, 0, 255).astype(np.uint8), 85))
    if perf_counter() - started_s > 1:
        say(f"made {folder}")
    return paths


if __name__ == "__main__":
    sys.exit(main())
