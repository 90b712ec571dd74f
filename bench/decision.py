"""How well changes are found, beside simpler ways, on simulated yards whose truth is exact.

Each yard is rendered, encoded as H.264 and sampled once a second; every method sees the same samples. A new state
counts as found when an event lies between its start (the thing is at rest) and its end, at most 15 s later; every
other event is false. Where a thing of the same kind and colour stood at the same place before, either answer is right,
and neither counts. "early ok" also lets events count that come while the thing is still on its way, which is kind to
methods that alarm at once. The row "shipped" has the network's own threshold. Every other row has the threshold that
was best for it over these same yards, which flatters it.

Methods that alarm on single samples wait 10 s after an alarm. What a method raised, it knows from then on: states join
the memory, a running mean starts from the new picture.
"""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from _common import BUILD, Outcome, code_key, options_of, say, show
from numpy.typing import NDArray

from streamwatch.assembly import change_settings
from streamwatch.change.decision import ChangeDecider, ChangeSettings
from streamwatch.change.memory import Memory
from streamwatch.config import ChangeConfig
from streamwatch.embedding import Embedder, EmbedderIdentity, load_embedder
from streamwatch.errors import UnknownLayer
from streamwatch.imaging import load_cv2
from streamwatch.prefetch import Prefetched
from streamwatch.records import Embedding, Grid
from streamwatch.sampling import Sampler
from streamwatch.simulation import LastingObject, YardScene, random_scenario, write_clip
from streamwatch.sources import open_source

FIRST_SEED = 3000
WIDTH, HEIGHT, FPS = 960, 540, 5.0
GREY = (320, 180)
LATEST_S, COOLDOWN_S, CONFIRM = 15.0, 10.0, 6
NEVER = 1e30
"""A threshold that nothing exceeds."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A new state."""

    start_s: float
    end_s: float
    moving_from_s: float
    """When the state before it ended."""

    optional: bool = False
    """True if the change looks like one before it: raised or not, it counts neither way."""

    what: str = ""
    share: float = 0.0
    """Of the frame, that the box of the change covers."""

    contrast: float = 0.0
    """Mean difference within that box to the picture without the change, in grey levels, before light and noise."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    name: str
    video: Path
    every_s: float
    expected: tuple[Expected, ...]

    @property
    def needed(self) -> int:
        """New states that must be found."""
        return sum(not state.optional for state in self.expected)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """One clip as the methods see it; all arrays begin with the samples."""

    clip: Clip
    times_s: NDArray[np.float64]
    regions: NDArray[np.float32]
    """Our region vectors."""

    frame: NDArray[np.float32]
    """The network's last features of the whole frame, raw."""

    grey: NDArray[np.uint8]


Judged = tuple[list[float], list[float]]
"""Times of the events, and the score of each sample."""


@dataclass(frozen=True, kw_only=True)
class Method:
    name: str
    run: Callable[[Samples, float], Judged]
    thresholds: tuple[float, ...] = ()
    """Those to try; empty: spread over the scores."""


# ---- methods -------------------------------------------------------------------------------------------------------


def by_decider(
    vectors: NDArray[np.float32], times_s: NDArray[np.float64], settings: ChangeSettings, grid: Grid
) -> Judged:
    states = settings.recent if settings.remember == "recent" else 512
    memory = Memory(regions=grid.regions, dimensions=vectors.shape[2], max_states=states)
    numbers = iter(range(len(vectors) + 1))
    decider = ChangeDecider(settings, memory, grid=grid, new_id=lambda: str(next(numbers)))
    events, scores = [], []
    for at_s, each in zip(times_s.tolist(), vectors, strict=True):
        judgement = decider.judge(Embedding(vectors=each, grid=grid), pts_s=at_s)
        if math.isfinite(judgement.novelty):
            scores.append(judgement.novelty)
        if judgement.change is not None:
            events.append(at_s)
    return events, scores


def ours(samples: Samples, threshold: float, *, settings: ChangeSettings, grid: Grid) -> Judged:
    return by_decider(samples.regions, samples.times_s, replace(settings, threshold=threshold), grid)


def whole_frame(
    samples: Samples, threshold: float, *, unit: bool, confirm: int, remember: str, of: str = "frame"
) -> Judged:
    vectors = pixels_of(samples.grey) if of == "pixels" else samples.frame
    if unit:
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    settings = ChangeSettings(
        threshold=threshold,
        confirm_samples=confirm,
        min_regions=1,
        remember=remember,
        cooldown_s=COOLDOWN_S if confirm == 1 else 0.0,
    )
    return by_decider(vectors[:, None].astype(np.float32), samples.times_s, settings, Grid(1, 1))


def pixels_of(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """64×36 pixels less their mean."""
    small = np.stack([load_cv2().resize(each, (64, 36), interpolation=load_cv2().INTER_AREA) for each in grey])
    flat = small.reshape(len(small), -1).astype(np.float32) / 255
    centred: NDArray[np.float32] = flat - flat.mean(axis=1, keepdims=True)
    return centred


def running_mean(samples: Samples, threshold: float, *, rate: float) -> Judged:
    """Mean absolute difference to an exponential running mean, both less their own mean."""
    events: list[float] = []
    scores: list[float] = []
    mean: NDArray[np.float32] | None = None
    for at_s, each in zip(samples.times_s.tolist(), samples.grey, strict=True):
        picture = each.astype(np.float32) - np.float32(each.mean())
        if mean is None:
            mean = picture
            continue
        scores.append(float(np.abs(picture - mean).mean()))
        mean = (1 - rate) * mean + rate * picture
        if scores[-1] > threshold and (not events or at_s - events[-1] >= COOLDOWN_S):
            events.append(at_s)
            mean = picture
    return events, scores


def mog2(samples: Samples, threshold: float, *, confirm: int) -> Judged:
    """Share of foreground, shadows not counted, after OpenCV's MOG2 with a history of two minutes."""
    cv2 = load_cv2()

    def fresh() -> Any:
        return cv2.createBackgroundSubtractorMOG2(history=120, varThreshold=16, detectShadows=True)

    subtractor = fresh()
    events: list[float] = []
    scores: list[float] = []
    window: deque[float] = deque(maxlen=confirm)
    kernel = np.ones((3, 3), dtype=np.uint8)
    for number, (at_s, each) in enumerate(zip(samples.times_s.tolist(), samples.grey, strict=True)):
        mask = subtractor.apply(cv2.GaussianBlur(each, (5, 5), 0))
        opened = cv2.morphologyEx((mask == 255).astype(np.uint8), cv2.MORPH_OPEN, kernel)
        if number < CONFIRM:  # it learns
            continue
        window.append(float(opened.mean()))
        if len(window) < confirm:
            continue
        scores.append(min(window))
        cool = confirm > 1 or not events or at_s - events[-1] >= COOLDOWN_S
        if scores[-1] > threshold and cool:
            events.append(at_s)
            window.clear()
            subtractor = fresh()
            subtractor.apply(cv2.GaussianBlur(each, (5, 5), 0))
    return events, scores


def methods_of(identity: EmbedderIdentity, frame_layer: str) -> list[Method]:
    settings = change_settings(ChangeConfig(), identity)
    run = partial(ours, settings=settings, grid=identity.grid)
    last = f"{identity.network} {frame_layer}"
    return [
        Method(name="ours, shipped threshold", run=run, thresholds=(settings.threshold,)),
        Method(name="ours, best threshold", run=run, thresholds=tuple(np.round(np.arange(0.4, 2.01, 0.1), 2).tolist())),
        Method(
            name=f"the paper's way: whole frame ({last}), raw, last sample, 32 recent frames",
            run=partial(whole_frame, unit=False, confirm=1, remember="recent"),
        ),
        Method(
            name="the same at unit length",
            run=partial(whole_frame, unit=True, confirm=1, remember="recent"),
        ),
        Method(
            name=f"whole frame at unit length, persistence {CONFIRM}, memory of states",
            run=partial(whole_frame, unit=True, confirm=CONFIRM, remember="states"),
        ),
        Method(name="pixels to a running mean, rate 0.05", run=partial(running_mean, rate=0.05)),
        Method(name="pixels to a running mean, rate 0.3", run=partial(running_mean, rate=0.3)),
        Method(
            name=f"64×36 pixels, persistence {CONFIRM}, memory of states",
            run=partial(whole_frame, unit=False, confirm=CONFIRM, remember="states", of="pixels"),
        ),
        Method(name="MOG2 foreground share", run=partial(mog2, confirm=1)),
        Method(name=f"MOG2 foreground share, least of {CONFIRM} samples", run=partial(mog2, confirm=CONFIRM)),
    ]


# ---- score ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Score:
    found: int
    false: int
    expected: int

    @property
    def f1(self) -> float:
        told = 2 * self.found + self.false + (self.expected - self.found)
        return 2 * self.found / told if told else 1.0


def match(events: Sequence[float], expected: Sequence[Expected], *, early: bool) -> tuple[set[int], list[float]]:
    """Which expected states were found, and the events that were false."""
    found: set[int] = set()
    false: list[float] = []
    for at_s in events:
        for number, state in enumerate(expected):
            begins_s = state.moving_from_s if early else state.start_s
            if number not in found and begins_s <= at_s <= min(state.end_s, state.start_s + LATEST_S):
                found.add(number)
                break
        else:
            false.append(at_s)
    return {number for number in found if not expected[number].optional}, false


def total(judged: Sequence[Judged], clips: Sequence[Clip], *, early: bool) -> Score:
    pairs = [match(events, clip.expected, early=early) for (events, _), clip in zip(judged, clips, strict=True)]
    return Score(
        found=sum(len(found) for found, _ in pairs),
        false=sum(len(false) for _, false in pairs),
        expected=sum(clip.needed for clip in clips),
    )


def best(tried: dict[float, list[Judged]], clips: Sequence[Clip], *, early: bool) -> tuple[float, Score]:
    """The threshold of the best F1; of several, the middle one."""
    scores = {threshold: total(judged, clips, early=early) for threshold, judged in tried.items()}
    top = max(score.f1 for score in scores.values())
    winners = sorted(threshold for threshold, score in scores.items() if score.f1 == top)
    threshold = winners[(len(winners) - 1) // 2]
    return threshold, scores[threshold]


# ---- clips and vectors ---------------------------------------------------------------------------------------------


def make_yard(seed: int, *, duration_s: float, changes: int) -> Clip:
    scenario = random_scenario(seed, duration_s, changes=changes)
    scene = YardScene(seed=seed, width=WIDTH, height=HEIGHT, fps=FPS, scenario=scenario)
    key = code_key("streamwatch/simulation", extra=(seed, float(duration_s), changes, WIDTH, HEIGHT, FPS))
    path = BUILD / f"yard-{seed}-{key}.mp4"
    if not path.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        say(f"rendering yard {seed}")
        write_clip(path, scene)
    return Clip(name=str(seed), video=path, every_s=1.0, expected=tuple(expected_of(scene)))


def expected_of(scene: YardScene) -> list[Expected]:
    assert scene.scenario is not None
    things = {thing.name: thing for thing in scene.scenario.lasting}
    found = []
    for before, state in zip(scene.truth.intervals, scene.truth.intervals[1:], strict=False):
        if not state.new:
            continue
        changed = before.state ^ state.state
        (box, *_) = scene.truth.changed_boxes(state)
        at_s = (state.start_s + state.end_s) / 2
        seen = scene.render_clean(at_s, passing=False).astype(int)
        without = scene.render_clean(at_s, passing=False, without=changed).astype(int)
        top, left = int(box.y * HEIGHT), int(box.x * WIDTH)
        area = np.s_[top : top + max(1, int(box.height * HEIGHT)), left : left + max(1, int(box.width * WIDTH))]
        found.append(
            Expected(
                start_s=state.start_s,
                end_s=state.end_s,
                moving_from_s=before.end_s,
                optional=any(_looks_like_before(things[name], things.values()) for name in changed),
                what=", ".join(f"{name} (z {things[name].z_m:g} m)" for name in sorted(changed)),
                share=round(box.width * box.height, 4),
                contrast=round(float(np.abs(seen - without)[area].mean()), 1),
            )
        )
    return found


def _looks_like_before(thing: LastingObject, things: Iterable[LastingObject]) -> bool:
    def look(each: LastingObject) -> tuple[object, ...]:
        return each.kind, each.colour, each.x_m, each.z_m

    arrives_s = thing.stays[0].arrives_s
    return any(look(other) == look(thing) and other.stays[0].arrives_s < arrives_s for other in things)


def read_clips(path: Path) -> list[Clip]:
    clips = []
    for entry in json.loads(path.read_text(encoding="utf-8")):
        expected = tuple(
            Expected(start_s=start, end_s=end, moving_from_s=start - entry.get("moving_s", 3.0))
            for start, end in entry["expected"]
        )
        video = path.parent / entry["video"]
        clips.append(Clip(name=video.name, video=video, every_s=float(entry.get("every_s", 1.0)), expected=expected))
    return clips


def vectors_of(clip: Clip, regions: Embedder, frame: Embedder) -> Path:
    """Sample a clip and embed its samples, once; returns the file that keeps them."""
    stat = clip.video.stat()
    source_key = (clip.video.name, clip.every_s, stat.st_size, stat.st_mtime_ns)
    key = code_key("streamwatch/embedding", extra=(source_key, regions.identity, frame.identity))
    path = BUILD / f"vectors-{clip.name}-{key}.npz"
    if path.exists():
        return path
    say(f"embedding {clip.name}")
    source = open_source(str(clip.video), every_s=clip.every_s, decode="all")
    sampler = Sampler(clip.every_s)
    times_s: list[float] = []
    parts: dict[str, list[Any]] = {"regions": [], "frame": [], "grey": []}
    cv2 = load_cv2()
    for each in source.frames():
        if not sampler.take(each.pts_s):
            continue
        picture = Prefetched(each.picture)
        times_s.append(each.pts_s)
        parts["regions"].append(regions.embed([picture])[0])
        parts["frame"].append(frame.embed([picture])[0, 0])
        parts["grey"].append(cv2.cvtColor(picture.rgb(width=GREY[0], height=GREY[1]), cv2.COLOR_RGB2GRAY))
    partial_path = path.with_suffix(".partial.npz")
    np.savez(partial_path, times_s=np.array(times_s), **{name: np.stack(each) for name, each in parts.items()})
    partial_path.replace(path)
    return path


def whole_frame_embedder(network: str, weights: str | None) -> Embedder:
    """fc7 where the weights have it, else the network's last features."""
    for layer in ("fc7", "pool5") if network.startswith("vgg") else ("pooled",):
        try:
            return load_embedder(network=network, weights=weights, layer=layer, grid="frame", unit_length=False)
        except UnknownLayer:
            continue
    raise SystemExit(f"{network} has no layer for the whole frame")


# ---- the run -------------------------------------------------------------------------------------------------------

_loaded: list[Samples] = []


def _load(clips: Sequence[Clip], files: Sequence[Path]) -> None:
    for clip, file in zip(clips, files, strict=True):
        with np.load(file) as arrays:
            _loaded.append(Samples(clip=clip, **{name: arrays[name] for name in arrays.files}))


def _run(method: Method, threshold: float) -> list[Judged]:
    return [method.run(samples, threshold) for samples in _loaded]


def run_all(
    methods: Sequence[Method], clips: Sequence[Clip], files: Sequence[Path], *, steps: int
) -> list[dict[float, list[Judged]]]:
    """Every method at every threshold it tries: for each method, what it said about each clip."""
    with ProcessPoolExecutor(
        os.cpu_count(), mp_context=get_context("spawn"), initializer=_load, initargs=(clips, files)
    ) as pool:
        silent = {m.name: pool.submit(_run, m, NEVER) for m in methods if not m.thresholds}
        futures = []
        for method in methods:
            thresholds = method.thresholds
            if not thresholds:
                scores = np.concatenate([each for _, each in silent[method.name].result()])
                low, high = np.quantile(scores[scores > 0], 0.3), scores.max()
                thresholds = tuple(np.geomspace(low, high, steps).tolist())
            futures.append({threshold: pool.submit(_run, method, threshold) for threshold in thresholds})
        return [{threshold: future.result() for threshold, future in each.items()} for each in futures]


def faults_of(judged: Sequence[Judged], clips: Sequence[Clip]) -> list[dict[str, Any]]:
    """What the shipped settings missed and raised in vain, for those who look into it."""
    faults = []
    for (events, _), clip in zip(judged, clips, strict=True):
        found, false = match(events, clip.expected, early=False)
        missed = [
            asdict(state) for number, state in enumerate(clip.expected) if number not in found and not state.optional
        ]
        faults.append({"clip": clip.name, "events_s": events, "missed": missed, "false_s": false})
    return faults


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--yards", type=int, default=6, help="how many (default: 6)")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help=f"of the yards (default: {FIRST_SEED})")
    parser.add_argument("--seconds", type=float, default=180.0, help="length of each yard's clip (default: 180)")
    parser.add_argument("--changes", type=int, default=6, help="changes tried in each clip (default: 6)")
    parser.add_argument("--network", default="lite0", help="default: lite0")
    parser.add_argument("--weights", help="the network's weights")
    parser.add_argument(
        "--clips",
        type=Path,
        metavar="FILE",
        help='real clips instead: JSON [{"video": "a.mp4", "every_s": 1, "expected": [[start_s, end_s], …]}, …]',
    )
    options = parser.parse_args()
    if options.quick:
        options.yards, options.seconds, options.changes = 1, 40.0, 1
    regions = load_embedder(network=options.network, weights=options.weights)
    frame = whole_frame_embedder(options.network, options.weights)
    seeds = range(options.first_seed, options.first_seed + options.yards)
    clips = (
        read_clips(options.clips)
        if options.clips
        else [make_yard(seed, duration_s=options.seconds, changes=options.changes) for seed in seeds]
    )
    files = [vectors_of(clip, regions, frame) for clip in clips]
    methods = methods_of(regions.identity, frame.identity.layer)
    results = run_all(methods, clips, files, steps=4 if options.quick else 24)
    outcome = Outcome(
        bench="decision",
        claim=f"Changes found, {'real clips' if options.clips else 'simulated yards'}: "
        f"{len(clips)} clips, {sum(clip.needed for clip in clips)} new states",
        settings={
            "network": f"{regions.identity.network} {regions.identity.layer}",
            "weights": regions.identity.weights_id,
            **({"clips": options.clips.name} if options.clips else {"seeds": f"{seeds[0]}–{seeds[-1]}"}),
            **({} if options.clips else {"clip": f"{options.seconds:g} s of {WIDTH}×{HEIGHT} at {FPS:g} fps"}),
            "every": "1 s",
            "persistence": CONFIRM,
            "cooldown of single-sample methods": f"{COOLDOWN_S:g} s",
        },
        notes=[
            "All rows but the first have the threshold that was best for them on these same clips: it flatters them."
        ],
        details={"shipped": faults_of(next(iter(results[0].values())), clips)},
    )
    for method, tried in zip(methods, results, strict=True):
        threshold, score = best(tried, clips, early=False)
        _, early = best(tried, clips, early=True)
        outcome.rows.append(
            {
                "method": method.name,
                "F1": round(score.f1, 3),
                "found": f"{score.found} of {score.expected}",
                "false": score.false,
                "F1, early ok": round(early.f1, 3),
                "threshold": float(f"{threshold:.4g}"),
            }
        )
    show(outcome, as_json=options.json)


if __name__ == "__main__":
    main()
