"""What `scan` costs beside the network itself: its wall time over the embedder's own on the same samples.

    vgg16: 1080p25 H.264 with a key frame every 2 s, --every 2s (key frames alone are decoded): scan over embedding
    lite0: the same file, --every 1s, all frames decoded: scan over the larger of decoding alone and embedding alone

Embedding alone is the same embedder, fed with the same samples, decoded and resized beforehand, in batches alike.
Models are loaded outside of the timing; scan, embedding and decoding take turns, and the medians are compared.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# As the command does, before torch is loaded: streamwatch/cli.py says why.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from _common import BUILD, Check, Outcome, middle, options_of, rounds_in_turn, say, show, yard_still_clip

from streamwatch.config import ChangeConfig
from streamwatch.embedding import Embedder, load_embedder
from streamwatch.embedding.networks import network
from streamwatch.imaging import ArrayPicture
from streamwatch.offline.scan import ScanOptions, scan
from streamwatch.sampling import Sampler
from streamwatch.sources import DecodeOption, open_source

TARGET = 1.15


def measure(
    video: Path, embedder: Embedder, *, every_s: float, decode: DecodeOption, rounds: int
) -> dict[str, float | str]:
    """One network's row."""
    px = embedder.identity.input_px
    size = embedder.batch_size
    samples: list[ArrayPicture] = []

    def decode_only(*, keep: bool = False) -> None:
        source = open_source(str(video), every_s=every_s, decode=decode)
        sampler = Sampler(every_s)
        for frame in source.frames():
            if sampler.take(frame.pts_s):
                pixels = frame.picture.rgb(width=px, height=px)
                if keep:
                    samples.append(ArrayPicture(pixels))

    def embed_only() -> None:
        for start in range(0, len(samples), size):
            embedder.embed(samples[start : start + size])

    decode_only(keep=True)
    embedder.embed(samples[:size])
    with tempfile.TemporaryDirectory() as folder:
        options = ScanOptions(change=ChangeConfig(), every_s=every_s, pictures=Path(folder), decode=decode)
        result = scan(str(video), embedder=embedder, options=options)
        if result.samples != len(samples):
            raise RuntimeError(f"scan saw {result.samples} samples, the bench {len(samples)}")
        taken = rounds_in_turn(
            {
                "scan": lambda: scan(str(video), embedder=embedder, options=options),
                "embed": embed_only,
                "decode": decode_only,
            },
            rounds=rounds,
        )
    medians = {name: middle(values) for name, values in taken.items()}
    larger = medians["embed"] if decode == "keyframes" else max(medians["embed"], medians["decode"])
    return {
        "network": f"{embedder.identity.network} {embedder.identity.layer}",
        "decode": str(result.decode),
        "samples": str(len(samples)),
        "scan_s": medians["scan"],
        "embed_s": medians["embed"],
        "decode_s": medians["decode"],
        "ratio": round(medians["scan"] / larger, 3),
        "of the": "embedder" if decode == "keyframes" else "larger",
        "ratios": " ".join(
            f"{s / (e if decode == 'keyframes' else max(e, d)):.2f}"
            for s, e, d in zip(taken["scan"], taken["embed"], taken["decode"], strict=True)
        ),
    }


def random_vgg16() -> Path:
    """A weights file of random numbers: it costs what the genuine one costs."""
    path = BUILD / "vgg16-random.safetensors"
    if not path.exists():
        say(f"making {path.name}")
        import torch
        from safetensors.torch import save_file

        from streamwatch.embedding.architectures import needed

        BUILD.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        tensors = {}
        for name, shape in needed("vgg16", network("vgg16").default_layer).items():
            fan_in = torch.Size(shape[1:]).numel() if len(shape) > 1 else shape[0]
            tensors[name] = torch.randn(shape) * (2 / fan_in) ** 0.5
        partial = path.with_suffix(".partial")
        save_file(tensors, partial)
        partial.replace(path)
    return path


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--weights", type=Path, metavar="FILE", help="VGG16's weights (default: random ones are made)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the clip (default: 60)")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--only", choices=("vgg16", "lite0"), help="measure one network only")
    options = parser.parse_args()
    size = (1920, 1080)
    if options.quick:
        options.seconds, options.rounds, options.only, size = 12.0, 1, options.only or "lite0", (320, 180)
    video = yard_still_clip(duration_s=options.seconds, size=size)
    outcome = Outcome(
        bench="scan",
        claim="Scanning keeps the network or the decoder busy: wall time of scan over the part that cannot be spared",
        settings={
            "clip": f"{options.seconds:g} s of {size[0]}×{size[1]} at 25 fps, GOP 50",
            "rounds": options.rounds,
            "cores": os.cpu_count(),
        },
    )
    if options.only != "lite0":
        weights = options.weights or random_vgg16()
        embedder = load_embedder(network="vgg16", weights=str(weights))
        outcome.rows.append(measure(video, embedder, every_s=2.0, decode="keyframes", rounds=options.rounds))
    if options.only != "vgg16":
        embedder = load_embedder(network="lite0")
        outcome.rows.append(measure(video, embedder, every_s=1.0, decode="all", rounds=options.rounds))
    outcome.checks = [
        Check(name=f"{row['network']}, scan ÷ {row['of the']}", value=float(row["ratio"]), target=TARGET)
        for row in outcome.rows
    ]
    show(outcome, as_json=options.json)


if __name__ == "__main__":
    main()
