"""`streamwatch scan`: options and configuration in; tables, JSON, CSV and the HTML report out."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from streamwatch.config import CameraConfig, ChangeConfig, Config, load_config
from streamwatch.durations import parse_duration
from streamwatch.embedding import Embedder, load_embedder
from streamwatch.embedding.choose import choose_network
from streamwatch.errors import OutputError, StreamwatchError, UsageError
from streamwatch.events.files import make_folder
from streamwatch.offline.output import print_table, printable, to_json, write_csv
from streamwatch.offline.report import write_report
from streamwatch.offline.result import ScanResult
from streamwatch.offline.scan import ScanOptions, scan
from streamwatch.sources import missing_file

_EVERY_S = 1.0


def scan_videos(options: argparse.Namespace) -> int:
    """Scan each video; one that cannot be read is reported, and the others are still scanned.

    Returns:
        0, or the exit code of the first video that failed, or 130 where Ctrl-C ended the scan early: what was found
        until then is written all the same.

    Raises:
        StreamwatchError: The options, the network or the output folder cannot be used.
    """
    errors = Console(stderr=True)
    config = load_config(options.config, environ=os.environ) if options.config else None
    camera = _camera(config, options.camera)
    change = _change(config, camera, options.threshold)
    every_s = _every(options.every, camera)
    make_folder(options.out)
    if options.csv:
        if options.csv.is_dir():
            raise OutputError(f"--csv {options.csv} is a folder, expected the name of a file to write")
        if not options.csv.parent.is_dir():
            raise OutputError(
                f"--csv {options.csv}: there is no folder {options.csv.parent}; make it, or choose another"
            )
        make_folder(options.csv.parent)
    # What is missing is said at once, not after the network was loaded and hours of other videos.
    looked_for = [(video, missing_file(video)) for video in options.videos]
    missing = [error for _, error in looked_for if error is not None]
    for error in missing:
        _complain(error, errors)
    failure = missing[0].exit_code if missing else 0
    if len(missing) == len(options.videos):
        return failure
    embedder = _embedder(options, config, change, errors)

    results: list[ScanResult] = []
    for number, (video, absent) in enumerate(looked_for, 1):
        if absent is not None:
            continue
        scan_options = ScanOptions(
            change=change,
            every_s=every_s,
            pictures=options.out / "pictures" / _folder_name(video, number, of=len(options.videos)),
            decode=options.decode or (camera.decode if camera else "auto"),
            hwaccel=camera.hwaccel if camera else None,
            zones=camera.zones if camera else (),
            masks=camera.masks if camera else (),
            jpeg_quality=config.events.jpeg_quality if config else 90,
        )
        try:
            result = _scan_one(video, embedder, scan_options, errors)
        except StreamwatchError as error:
            _complain(error, errors)
            failure = failure or error.exit_code
            continue
        results.append(result)
        if options.json:
            print(json.dumps(to_json(result), allow_nan=False), flush=True)
            for warning in result.warnings:
                errors.print(f"streamwatch: {video}: {warning}", style="yellow", markup=False, soft_wrap=True)
        if result.interrupted:
            failure = 130
            break
    if results:
        _write(options, results, errors)
    return failure


def _complain(error: StreamwatchError, errors: Console) -> None:
    errors.print(f"streamwatch: {error}", style="red", markup=False, highlight=False, soft_wrap=True)


def _scan_one(video: str, embedder: Embedder, options: ScanOptions, errors: Console) -> ScanResult:
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[events]} events"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    ) as progress:
        task = progress.add_task(Path(video).name, total=None, events=0)

        def heard(pts_s: float, events: int, total_s: float | None) -> None:
            progress.update(task, completed=pts_s, total=total_s, events=events)

        return scan(video, embedder=embedder, options=options, progress=heard)


def _write(options: argparse.Namespace, results: Sequence[ScanResult], errors: Console) -> None:
    report = options.out / "report.html"
    write_report(results, report, generated_at=datetime.now(UTC))
    if options.csv:
        try:
            with options.csv.open("w", newline="", encoding="utf-8") as file:
                write_csv(results, file)
        except OSError as error:
            raise OutputError(f"cannot write {options.csv}: {error.strerror or error}") from error
    if options.json:
        print(f"report: {report}", file=sys.stderr)
        return
    console = Console()
    print_table(results, console)
    console.print(f"report: {printable(str(report))}", markup=False, highlight=False, soft_wrap=True)


def _camera(config: Config | None, name: str | None) -> CameraConfig | None:
    if name is None:
        return None
    if config is None:
        raise UsageError("--camera names a camera of a configuration: give --config too")
    for camera in config.cameras:
        if camera.name == name:
            return camera
    names = ", ".join(camera.name for camera in config.cameras)
    raise UsageError(f"the configuration has no camera {name!r}; it has {names}")


def _change(config: Config | None, camera: CameraConfig | None, threshold: float | None) -> ChangeConfig:
    change = config.change if config else ChangeConfig()
    if camera is not None:
        change = camera.change_settings(change)
    if threshold is None:
        return change
    if not 0 < threshold < float("inf"):
        raise UsageError(f"--threshold is {threshold}, expected a number above 0")
    return change.model_copy(update={"threshold": threshold})


def _every(text: str | None, camera: CameraConfig | None) -> float:
    if text is None:
        return camera.every if camera else _EVERY_S
    try:
        # A bare number is meant in seconds.
        every_s = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--every is {text!r}: {error}") from error
    if not 0.01 <= every_s <= 86_400:
        raise UsageError(f"--every is {text!r}, expected 10ms to 24h")
    return every_s


def _embedder(options: argparse.Namespace, config: Config | None, change: ChangeConfig, errors: Console) -> Embedder:
    named = options.network or (config.network if config else "auto")
    weights = options.weights or (config.weights if config and not options.network else None)
    device = options.device or (config.device if config else "auto")
    choice = choose_network(named, weights=weights, device=device)
    if named == "auto":
        errors.print(f"network {choice.reason}", markup=False, highlight=False, soft_wrap=True)
    return load_embedder(
        network=choice.network,
        weights=choice.weights,
        layer=options.layer or (config.layer if config and not options.network else None),
        device=device,
        fit=config.fit if config else "squash",
        grid=change.regions,
        unit_length=change.unit_length,
    )


def _folder_name(video: str, number: int, *, of: int) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(video).stem).strip("._") or "video"
    return name if of == 1 else f"{number:0{len(str(of))}d}-{name}"
