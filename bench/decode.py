"""CPU time to sample a film: an OpenCV read loop against `open_source` with key-frame decoding.

Both sample 60 s of 1080p25 H.264 (camera noise, a key frame every 2 s) every 2 s at 224×224. Each run is a process of
its own, start and imports included; user and system seconds, runs interleaved, median.
`python bench/decode.py [--json] [--quick] [--rounds 3]`
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLIP = ROOT / "build" / "bench" / "decode-1080p25-gop50.mp4"
SECONDS, FPS, GOP, EVERY_S, TARGET = 60, 25, 50, 2.0, 8.0

OPENCV = """
import sys, cv2
capture = cv2.VideoCapture(sys.argv[1])
rate, count, samples = capture.get(cv2.CAP_PROP_FPS), 0, 0
while True:
    there, picture = capture.read()
    if not there:
        break
    if count % round(2.0 * rate) == 0:
        rgb = cv2.cvtColor(cv2.resize(picture, (224, 224), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        samples += 1
    count += 1
print(samples)
"""

OURS = """
import sys
from streamwatch.sampling import Sampler
from streamwatch.sources import open_source
sampler, samples = Sampler(2.0), 0
for frame in open_source(sys.argv[1], every_s=2.0, decode=sys.argv[2]).frames():
    if sampler.take(frame.pts_s):
        rgb = frame.picture.rgb(width=224, height=224)
        samples += 1
print(samples)
"""

CASES = {
    "OpenCV read loop": (OPENCV, "-"),
    "streamwatch, decode: auto": (OURS, "auto"),
    "streamwatch, decode: all": (OURS, "all"),
}


def make_clip() -> None:
    """A textured scene that moves a little, with the noise of a camera; the same for every run on a machine."""
    import av
    import numpy as np

    CLIP.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    coarse = random.integers(40, 200, (68 + 8, 120 + 8)).astype(np.uint8)
    scene = np.kron(coarse, np.ones((16, 16), np.uint8))
    noise = [random.integers(-6, 7, (1080, 1920)).astype(np.int8) for _ in range(7)]
    unfinished = CLIP.with_suffix(".part")
    with av.open(str(unfinished), "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 1920, 1080, "yuv420p", GOP
        stream.options = {"preset": "veryfast", "b": "5M", "bf": "0", "keyint_min": str(GOP), "sc_threshold": "0"}
        stream.bit_rate = 5_000_000
        for index in range(SECONDS * FPS):
            shift = index // 5 % 64
            luma = np.clip(
                scene[shift : shift + 1080, shift : shift + 1920] + noise[index % 7].astype(np.int16), 0, 255
            )
            planes = np.full((1620, 1920), 128, np.uint8)
            planes[:1080] = luma
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    unfinished.rename(CLIP)


def cpu_seconds(code: str, decode: str) -> tuple[float, int]:
    """(user and system seconds, samples) of one run in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code, str(CLIP), decode],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, int(done.stdout)


def main() -> int:
    """Exit code 1 if the ratio misses its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round only")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    if not CLIP.exists():
        print(f"encoding {CLIP.relative_to(ROOT)} (once)", file=sys.stderr)
        make_clip()
    runs: dict[str, list[float]] = {name: [] for name in CASES}
    samples: dict[str, int] = {}
    for _ in range(rounds):
        for name, (code, decode) in CASES.items():
            seconds, samples[name] = cpu_seconds(code, decode)
            runs[name].append(seconds)
    medians = {name: statistics.median(seconds) for name, seconds in runs.items()}
    slowest = medians["OpenCV read loop"]
    ratio = slowest / medians["streamwatch, decode: auto"]
    if options.json:
        cases = {name: {"cpu_s": runs[name], "median_cpu_s": medians[name], "samples": samples[name]} for name in CASES}
        print(json.dumps({"clip_s": SECONDS, "every_s": EVERY_S, "cases": cases, "ratio": ratio, "target": TARGET}))
    else:
        print(f"{'60 s of 1080p25, a sample every 2 s':<36}{'CPU s':>8}{'min–max':>14}{'samples':>9}{'times less':>12}")
        for name, seconds in runs.items():
            spread = f"{min(seconds):.2f}–{max(seconds):.2f}"
            print(f"{name:<36}{medians[name]:>8.2f}{spread:>14}{samples[name]:>9}{slowest / medians[name]:>12.1f}")
        print(f"ratio {ratio:.1f}, target at least {TARGET:g}")
    return 0 if ratio >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
