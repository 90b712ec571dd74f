"""Makes event.jpg, the picture in the README, from the demo's second event. Run `make demo` first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from streamwatch.imaging import load_picture
from streamwatch.offline.annotate import draw_regions
from streamwatch.records import Box, ChangedRegion

_HERE = Path(__file__).parent
_WIDTH = 620
_GAP = 8


def main() -> None:
    lines = (_HERE.parents[1] / "demo-out/data/events.jsonl").read_text().splitlines()
    event = json.loads(lines[1])["data"]
    regions = [
        ChangedRegion(
            box=Box(region["x"], region["y"], region["width"], region["height"]), distance_sq=region["distance_sq"]
        )
        for region in event["regions"]
    ]
    pictures = [
        load_picture(Path(event["before"])).rgb(),
        draw_regions(load_picture(Path(event["after"])).rgb(), regions),
    ]
    scaled = [
        np.asarray(Image.fromarray(rgb).resize((_WIDTH, _WIDTH * rgb.shape[0] // rgb.shape[1]), Image.Resampling.BOX))
        for rgb in pictures
    ]
    gap = np.full((scaled[0].shape[0], _GAP, 3), 255, np.uint8)
    Image.fromarray(np.concatenate([scaled[0], gap, scaled[1]], axis=1)).save(_HERE / "event.jpg", quality=88)


if __name__ == "__main__":
    main()
