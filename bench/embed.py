"""Images a second of our embedder beside the loop that a user would write with torchvision or timm.

The loop: one image at a time, torchvision's transforms, the whole network in eager mode, the layer taken by a forward
hook. Ours: the same pictures in batches, the network cut at the layer. Both on the CPU with the same threads, in
interleaved rounds, so that whatever else the machine does hits both; the ratio is the median over rounds.

    python bench/embed.py [--weights vgg16.safetensors] [--images 8] [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision import transforms
from torchvision.models import vgg16

from streamwatch.embedding import load_embedder
from streamwatch.embedding.known import embedded_file
from streamwatch.embedding.preprocessing import CAFFE_BGR, LITE0
from streamwatch.embedding.reading import open_file
from streamwatch.records import RGB


class Photo:
    """A picture that is decoded already: decoding is not what is measured."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.width, self.height = image.size

    def rgb(self, *, width: int | None = None, height: int | None = None) -> RGB:
        image = self.image
        if width is not None and height is not None:
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.array(image)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One network, all rounds."""

    what: str
    plain_images_per_s: float
    ours_images_per_s: float
    ratio: float
    """Ours over plain, median over rounds."""

    difference: float
    """Relative difference of the two vectors; they resize alike, so it is rounding."""


def pictures(count: int) -> list[Photo]:
    """Seeded blobs at 640×480."""
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(count)]
    return [Photo(Image.fromarray(each).resize((640, 480), Image.Resampling.BICUBIC)) for each in coarse]


def plain_loop(
    module: nn.Module, at: nn.Module, transform: Callable[[Image.Image], Tensor], average: int
) -> Callable[[Sequence[Photo]], Any]:
    """What a user would write."""
    kept: list[Tensor] = []
    at.register_forward_hook(lambda _module, _inputs, out: kept.append(out.clone()))

    def run(photos: Sequence[Photo]) -> Any:
        kept.clear()
        with torch.no_grad():
            for each in photos:
                module(transform(each.image).unsqueeze(0))
        maps = torch.nn.functional.avg_pool2d(torch.cat(kept), average)
        return maps.flatten(2).transpose(1, 2).numpy()

    return run


def plain_vgg16(weights: Path) -> Callable[[Sequence[Photo]], Any]:
    """torchvision's network to the end of its convolutions, on pixels as Oxford's weights want them."""
    module = vgg16(weights=None).features.eval()
    file = open_file(weights)
    module.load_state_dict(
        {key.removeprefix("features."): file.tensor(key) for key in file.shapes if key.startswith("features.")}
    )
    for layer in module:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    mean = torch.tensor(CAFFE_BGR.mean).view(3, 1, 1)
    transform = transforms.Compose(
        [transforms.Resize((224, 224)), transforms.PILToTensor(), lambda x: x.flip(0).float() - mean]
    )
    return plain_loop(module, module[22], transform, 2)


def plain_lite0() -> Callable[[Sequence[Photo]], Any]:
    """timm's whole network with the embedded weights."""
    module = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    file = torch.load(embedded_file(), weights_only=True)
    module.load_state_dict(dict(zip(module.state_dict(), file.values(), strict=True)))
    mean, std = ([number / 255 for number in triple] for triple in (LITE0.mean, LITE0.std))
    transform = transforms.Compose(
        [transforms.Resize((224, 224)), transforms.ToTensor(), transforms.Normalize(mean, std)]
    )
    return plain_loop(module, module.get_submodule("blocks.4.2"), transform, 1)


def compare(
    what: str, plain: Callable[[Sequence[Photo]], Any], ours: Any, photos: Sequence[Photo], rounds: int
) -> Result:
    """Both, in turn, after one run each to warm up."""
    expected, got = plain(photos), ours.embed(photos)
    times: dict[str, list[float]] = {"plain": [], "ours": []}
    for number in range(rounds):
        pair: list[tuple[str, Callable[[Sequence[Photo]], Any]]] = [("plain", plain), ("ours", ours.embed)]
        for name, run in pair if number % 2 == 0 else pair[::-1]:
            start = time.perf_counter()
            run(photos)
            times[name].append(time.perf_counter() - start)
    return Result(
        what=what,
        plain_images_per_s=len(photos) / statistics.median(times["plain"]),
        ours_images_per_s=len(photos) / statistics.median(times["ours"]),
        ratio=statistics.median(p / o for p, o in zip(times["plain"], times["ours"], strict=True)),
        difference=float(np.linalg.norm(got - expected) / np.linalg.norm(expected)),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", type=Path, help="a VGG16 file with Oxford's convolutions; without it Lite0 alone")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    photos = pictures(options.images)
    lite0 = load_embedder(network="lite0", unit_length=False, device="cpu")
    results = [compare("lite0 blocks.4.2", plain_lite0(), lite0, photos, options.rounds)]
    if options.weights is not None:
        ours = load_embedder(
            network="vgg16",
            weights=str(options.weights),
            preprocessing="caffe-bgr",
            unit_length=False,
            device="cpu",
        )
        results.append(compare("vgg16 conv4_3", plain_vgg16(options.weights), ours, photos, options.rounds))
    if options.json:
        print(json.dumps({"threads": torch.get_num_threads(), "results": [asdict(each) for each in results]}, indent=2))
        return
    table = Table("layer", "plain loop, images/s", "streamwatch, images/s", "ratio", "relative difference")
    for each in results:
        table.add_row(
            each.what,
            f"{each.plain_images_per_s:.1f}",
            f"{each.ours_images_per_s:.1f}",
            f"{each.ratio:.2f}",
            f"{each.difference:.1e}",
        )
    Console().print(table, f"CPU, {torch.get_num_threads()} threads, {options.images} images, {options.rounds} rounds")


if __name__ == "__main__":
    main()
