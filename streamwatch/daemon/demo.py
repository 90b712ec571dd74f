"""`streamwatch demo`: makes a clip of a simulated yard, runs the daemon on it and shows what it found."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from streamwatch.change.decision import Judgement
from streamwatch.clock import Clock, SystemClock
from streamwatch.config import CameraConfig, Config, load_config
from streamwatch.daemon.command import load_configured, make_sink, set_up_logging
from streamwatch.daemon.made_files import claim
from streamwatch.daemon.service import Service, open_camera
from streamwatch.daemon.signals import Signals
from streamwatch.daemon.systemd import Notifier
from streamwatch.embedding import EmbedderIdentity
from streamwatch.errors import UsageError
from streamwatch.events.files import make_folder
from streamwatch.events.store import FolderStore
from streamwatch.offline.output import clock_time, where
from streamwatch.offline.report import write_report
from streamwatch.offline.result import ScanEvent, ScanResult, TimelinePoint
from streamwatch.offline.scan import scan_event
from streamwatch.pipeline import Raised
from streamwatch.records import Frame
from streamwatch.simulation import Truth, YardScene, write_clip
from streamwatch.sources import Source
from streamwatch.urls import scheme_of

PACKAGED = Path(__file__).with_name("demo.yaml")


def demo(config_path: Path | None = None, *, seed: int = 0) -> int:
    """Make the clip, watch it, print each event as it happens, write the report.

    Args:
        config_path: None for the packaged configuration, whose paths start from the current folder.
        seed: Of the yard, its light and its noise.

    Raises:
        UsageError: The configuration is not one for a demo, or names files that no demo made.
        StreamwatchError: As `watch` does.
    """
    console = Console(highlight=False, soft_wrap=True)
    set_up_logging(level="WARNING")
    config = _load(config_path)
    camera = config.cameras[0]
    clip = _near(Path(camera.url))
    report = clip.parent / "report.html"
    claim(clip.parent, [clip, report, config.data_dir, *_outside(config.data_dir, config.jsonl_path)])
    store = FolderStore(config.data_dir)
    with store.lock():
        truth = _make_clip(clip, YardScene(seed=seed), console)
        _forget_earlier_runs(config)
        embedder = load_configured(config, store=store)
        recorder = _Recorder(console)
        with Signals() as signals:
            service = Service(
                config,
                embedder=embedder,
                store=store,
                sinks=[make_sink(config)],
                notifier=Notifier({}),
                observers=[recorder],
                opener=recorder.open,
            )
            signals.deliver_to(service.stop)
            console.print(f"watching {clip} with {embedder.identity.network}, a sample every {camera.every:g} s")
            service.run(stop_at_end=True)
    _write_report(report, recorder, camera, embedder.identity, truth)
    expected = truth.expected_events()
    console.print(
        f"{len(recorder.events)} events; the simulated yard has {len(expected)} new states "
        f"({', '.join(clock_time(interval.start_s) for interval in expected)})"
    )
    if config.jsonl_path:
        console.print(f"events: {_near(config.jsonl_path)}")
    console.print(f"report: {report}")
    return 0


def _load(path: Path | None) -> Config:
    if path is None:
        return load_config(PACKAGED, environ=os.environ, folder=Path.cwd())
    config = load_config(path, environ=os.environ)
    url = config.cameras[0].url
    if len(config.cameras) != 1 or scheme_of(url) is not None or Path(url).suffix != ".mp4":
        raise UsageError(f"{path} is no demo: expected one camera whose url is the path of an .mp4 file to be made")
    return config


def _outside(folder: Path, path: Path | None) -> list[Path]:
    return [] if path is None or path.resolve().is_relative_to(folder.resolve()) else [path]


def _near(path: Path) -> Path:
    """The path as a person in this folder would write it."""
    return Path(os.path.relpath(path))


def _make_clip(clip: Path, scene: YardScene, console: Console) -> Truth:
    make_folder(clip.parent)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("making the clip")

        def heard(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        truth = write_clip(clip, scene, progress=heard)
    console.print(f"made {clip}: {scene.duration_s:.0f} s of a simulated yard, {scene.width}×{scene.height}, H.264")
    return truth


def _forget_earlier_runs(config: Config) -> None:
    """The demo shows what a first run does: a memory of the same clip would keep it silent."""
    for camera in config.cameras:
        (config.data_dir / "memory" / f"{camera.name}.npz").unlink(missing_ok=True)
    if config.jsonl_path:
        config.jsonl_path.unlink(missing_ok=True)


@dataclass
class _Recorder:
    """Prints events as they happen, and keeps what the report shows."""

    console: Console
    timeline: list[TimelinePoint] = field(default_factory=list)
    events: list[ScanEvent] = field(default_factory=list)
    source: Source | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, camera: CameraConfig, *, clock: Clock | None = None) -> Source:
        self.source = open_camera(camera, clock=clock or SystemClock())
        return self.source

    def __call__(self, camera: str, frame: Frame, judgement: Judgement, raised: Raised | None) -> None:
        self.timeline.append(TimelinePoint(pts_s=frame.pts_s, novelty=judgement.novelty))
        if raised is None:
            return
        event = scan_event(raised)
        self.events.append(event)
        self.console.print(
            f"  {clock_time(event.time_s)}  new label needed: {where(event)}; novelty {event.novelty:.2f} "
            f"> {event.threshold:.2f}  →  {_near(event.after)}"
        )


def _write_report(
    report: Path, recorder: _Recorder, camera: CameraConfig, identity: EmbedderIdentity, truth: Truth
) -> None:
    source = recorder.source
    last_s = recorder.timeline[-1].pts_s if recorder.timeline else 0.0
    result = ScanResult(
        video=str(_near(Path(camera.url))),
        duration_s=max(last_s, (source.duration_s if source else None) or 0.0),
        samples=len(recorder.timeline),
        every_s=camera.every,
        network=identity.network,
        layer=identity.layer,
        weights_id=identity.weights_id,
        threshold=recorder.events[0].threshold if recorder.events else 0.0,
        decode=source.decode_mode if source else "all",
        timeline=tuple(recorder.timeline),
        events=tuple(recorder.events),
        warnings=source.warnings if source else (),
    )
    bands = [(interval.start_s, interval.end_s, "new state") for interval in truth.expected_events()]
    write_report(
        [result], report, title="A simulated yard", generated_at=datetime.now(UTC), truth={result.video: bands}
    )
