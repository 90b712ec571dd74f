"""What `streamwatch doctor` looks at: this machine, and each configured camera. No check raises."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from streamwatch.errors import PortUnavailable, SourceError, SourceTimeout, SourceUnauthorized, StreamwatchError

if TYPE_CHECKING:
    from rich.console import Console

    from streamwatch.config import CameraConfig, Config, ListenAddress
    from streamwatch.sources import Source

Status = Literal["ok", "warn", "fail"]

PACKAGES = ("torch", "torchvision", "av", "opencv-python", "numpy", "pillow", "safetensors")
DECODERS = {"h264": "H.264", "hevc": "H.265", "mjpeg": "Motion JPEG"}
CAMERAS_AT_ONCE = 16
LOW_DISK_BYTES, NO_DISK_BYTES = 5 << 30, 200 << 20


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    """`ok`; `warn`: it works, with less than one might expect; `fail`: `watch` would not work."""

    detail: str
    """What was found. Never holds a password."""

    advice: str = ""
    """What to do; empty where all is well."""


def run_checks(config: Config | None, *, open_camera: Callable[[CameraConfig], Source]) -> list[Check]:
    """Look at the machine, and at what the configuration names. Writes nothing that stays, downloads nothing.

    Args:
        config: None looks at the machine only.
        open_camera: Makes a camera's source as `watch` does. Called from threads of its own, up to 16 at once.
    """
    checks = [
        _guarded("python", check_python),
        _guarded("packages", check_packages),
        _guarded("opencv", check_opencv),
        _guarded("decoders", check_decoders),
        _guarded("embedded weights", check_embedded_weights),
        _guarded("device", lambda: check_device("auto" if config is None else config.device)),
    ]
    if config is None:
        return checks
    checks.append(_guarded("weights", lambda: check_weights(config)))
    checks.append(_guarded("data_dir", lambda: check_data_dir(config.data_dir)))
    checks.append(_guarded("disk", lambda: check_disk(config.data_dir)))
    listen = config.metrics.listen
    if listen is not None:
        checks.append(_guarded("metrics port", lambda: check_port(listen)))
    return checks + check_cameras(config.cameras, open_camera=open_camera)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check that itself goes wrong is a finding as well, and the others go on."""
    try:
        return check()
    except StreamwatchError as error:
        return Check(name=name, status="fail", detail=str(error))
    except Exception as error:
        detail = f"the check itself failed: {type(error).__name__}: {error}"
        return Check(name=name, status="fail", detail=detail, advice="please report this")


def check_python() -> Check:
    """The interpreter and the system."""
    detail = f"Python {platform.python_version()} on {platform.platform(terse=True)}, {os.cpu_count()} cores"
    return Check(name="python", status="ok", detail=detail)


def check_packages() -> Check:
    """The versions of what matters; OpenCV may be its headless build."""
    found, missing = [], []
    for package in PACKAGES:
        for name in (package, f"{package}-headless") if package == "opencv-python" else (package,):
            try:
                found.append(f"{name} {version(name)}")
                break
            except PackageNotFoundError:
                continue
        else:
            missing.append(package)
    if missing:
        advice = f"install streamwatch again with pip; missing: {', '.join(missing)}"
        return Check(name="packages", status="fail", detail=", ".join(found), advice=advice)
    return Check(name="packages", status="ok", detail=", ".join(found))


def check_opencv() -> Check:
    """Whether OpenCV loads: its usual wheel needs the system's libGL, which servers often lack."""
    try:
        import cv2
    except ImportError as error:
        advice = (
            "apt install libgl1 libglib2.0-0, or: pip uninstall opencv-python && pip install opencv-python-headless"
        )
        return Check(name="opencv", status="fail", detail=f"OpenCV cannot be loaded: {error}", advice=advice)
    return Check(name="opencv", status="ok", detail=f"OpenCV {cv2.__version__} loads")


def check_decoders() -> Check:
    """Whether PyAV's FFmpeg decodes what cameras send."""
    try:
        import av
        import av.codec
    except ImportError as error:
        detail = f"PyAV cannot be loaded: {error}"
        return Check(name="decoders", status="fail", detail=detail, advice="pip install --force-reinstall av")
    missing = [title for name, title in DECODERS.items() if name not in av.codec.codecs_available]
    if missing:
        detail = f"PyAV {av.__version__} has no decoder for {', '.join(missing)}"
        return Check(
            name="decoders", status="fail", detail=detail, advice="pip install --force-reinstall av (its own wheel)"
        )
    return Check(name="decoders", status="ok", detail=f"PyAV {av.__version__}: {', '.join(DECODERS.values())}")


def check_device(device: str) -> Check:
    """Where the network would run."""
    from streamwatch.embedding.torch_backend import pick_device

    try:
        picked = pick_device(device)
    except StreamwatchError as error:
        return Check(
            name="device", status="fail", detail=str(error), advice="set device: auto, or repair the GPU's driver"
        )
    reason = (
        "asked for"
        if device != "auto"
        else "auto: a GPU is there"
        if picked.type == "cuda"
        else "auto: no CUDA GPU is there"
    )
    return Check(name="device", status="ok", detail=f"{picked} ({reason})")


def check_embedded_weights() -> Check:
    """Whether the embedded network's file is the one that was measured."""
    from streamwatch.embedding.known import known_weights
    from streamwatch.embedding.weights import find_cached

    known = known_weights("lite0")
    found = find_cached(known) if known is not None else None
    if known is None or found is None:
        return Check(
            name="embedded weights", status="fail", detail="not found", advice="install streamwatch again with pip"
        )
    return Check(name="embedded weights", status="ok", detail=f"lite0, {found.id}")


def check_weights(config: Config) -> Check:
    """Whether the weights of the network that `watch` would take are on this machine."""
    from streamwatch.assembly import kept_choice
    from streamwatch.checks import check_networks
    from streamwatch.embedding.choose import choose_network
    from streamwatch.embedding.known import known_weights
    from streamwatch.embedding.networks import network
    from streamwatch.embedding.weights import cache_folder, find_cached, locate, split_hash

    try:
        check_networks(config)
        choice = kept_choice(config) or choose_network(config.network, weights=config.weights, device=config.device)
        name = None if choice.weights is None else split_hash(choice.weights)[0]
        known = known_weights(choice.network, name)
        found = find_cached(known) if known is not None else locate(network(choice.network), choice.weights)
    except StreamwatchError as error:
        return Check(name="weights", status="fail", detail=str(error))
    if found is not None:
        return Check(name="weights", status="ok", detail=f"{choice.reason}; {found.path} ({found.id})")
    assert known is not None
    return Check(
        name="weights",
        status="warn",
        detail=f"{choice.reason}; {known.file} is not in {cache_folder()}",
        advice="the first start downloads it, or copy it there by hand",
    )


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def check_data_dir(data_dir: Path) -> Check:
    """Whether pictures and events could be written: a file is, and is removed again."""
    name, advice = "data_dir", "make the folder and give it to the user that runs streamwatch, or change data_dir"
    if data_dir.is_dir():
        try:
            with tempfile.TemporaryFile(dir=data_dir) as file:
                file.write(b"streamwatch doctor")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            return Check(
                name=name, status="fail", detail=f"{data_dir} cannot be written: {error.strerror}", advice=advice
            )
        return Check(name=name, status="ok", detail=f"{data_dir} can be written")
    above = _existing(data_dir)
    if not above.is_dir():
        return Check(name=name, status="fail", detail=f"{above} is a file, expected a folder", advice="change data_dir")
    if not os.access(above, os.W_OK | os.X_OK):
        detail = f"{data_dir} does not exist and {above} cannot be written"
        return Check(name=name, status="fail", detail=detail, advice=advice)
    return Check(name=name, status="ok", detail=f"{data_dir} does not exist yet; the first start makes it")


def check_disk(data_dir: Path) -> Check:
    """Whether there is room for pictures."""
    free = shutil.disk_usage(_existing(data_dir)).free
    detail = f"{free / (1 << 30):.1f} GiB free for {data_dir}"
    if free < LOW_DISK_BYTES:
        status: Status = "fail" if free < NO_DISK_BYTES else "warn"
        return Check(name="disk", status=status, detail=detail, advice="free some space, or move data_dir")
    return Check(name="disk", status="ok", detail=detail)


def check_port(listen: ListenAddress) -> Check:
    """Whether the metrics' address is free. Connections in TIME_WAIT do not count, as for the daemon."""
    from streamwatch.daemon.health import check_port as probe

    try:
        probe(listen.host, listen.port)
    except PortUnavailable as error:
        advice = "if streamwatch is running already, all is well"
        return Check(name="metrics port", status="warn", detail=str(error), advice=advice)
    return Check(name="metrics port", status="ok", detail=f"{listen} is free")


def check_cameras(cameras: Sequence[CameraConfig], *, open_camera: Callable[[CameraConfig], Source]) -> list[Check]:
    """One check a camera, in the order given; 16 are asked at once."""
    with ThreadPoolExecutor(max_workers=min(CAMERAS_AT_ONCE, max(1, len(cameras)))) as pool:
        return list(pool.map(lambda camera: check_camera(camera, open_camera=open_camera), cameras))


def check_camera(camera: CameraConfig, *, open_camera: Callable[[CameraConfig], Source]) -> Check:
    """Whether a camera gives a first picture within its own timeouts."""
    name = f"camera {camera.name}"
    patience_s = camera.open_timeout + camera.read_timeout
    answer: Future[str] = Future()
    opened: list[Source] = []

    def look() -> None:
        try:
            source = open_camera(camera)
            opened.append(source)
            answer.set_result(_first_picture(source))
        except Exception as error:  # goes to the thread that waits
            answer.set_exception(error)

    # A thread of its own, and a daemon: a driver that hangs in a call must not keep the doctor from ending.
    threading.Thread(target=look, name=f"doctor-{camera.name}", daemon=True).start()
    try:
        return Check(name=name, status="ok", detail=f"{camera.safe_url}: {answer.result(timeout=patience_s)}")
    except SourceUnauthorized as error:
        advice = "check username and password (try them in a browser or player)"
        return Check(name=name, status="fail", detail=_clean(camera, error), advice=advice)
    except (TimeoutError, SourceTimeout):
        detail = f"{camera.safe_url}: no picture within {patience_s:g} s"
        advice = "check that it is on and reachable from this machine, and the path in its url"
        return Check(name=name, status="fail", detail=detail, advice=advice)
    except StreamwatchError as error:
        return Check(name=name, status="fail", detail=_clean(camera, error), advice="check the camera's url")
    except Exception as error:
        detail = f"{camera.safe_url}: {type(error).__name__}: {_clean(camera, error)}"
        return Check(name=name, status="fail", detail=detail, advice="please report this")
    finally:
        for source in opened:
            source.close()


def _first_picture(source: Source) -> str:
    started_s = time.monotonic()
    for frame in source.frames():
        took_s = time.monotonic() - started_s
        return f"{frame.picture.width}×{frame.picture.height}, first picture after {took_s:.1f} s"
    raise SourceError("it ended without a picture")


def _clean(camera: CameraConfig, error: Exception) -> str:
    """An error's text without the camera's secrets, whoever wrote it."""
    text = str(error).replace(camera.url, camera.safe_url)
    secret = camera.password.get_secret_value() if camera.password is not None else ""
    return text.replace(secret, "…") if secret else text


def worst(checks: Iterable[Check]) -> Status:
    """`fail` if any check failed, else `warn` if any warns, else `ok`."""
    found = {check.status for check in checks}
    return "fail" if "fail" in found else "warn" if "warn" in found else "ok"


def to_json(checks: Iterable[Check]) -> str:
    """`{"status": …, "checks": [{"name", "status", "detail", "advice"}, …]}`, indented."""
    checks = list(checks)
    document = {"status": worst(checks), "checks": [asdict(check) for check in checks]}
    return json.dumps(document, indent=2)


def print_checks(checks: Iterable[Check], console: Console) -> None:
    """A table for people: a sign and a word for each status, so that colour is not needed."""
    from rich.table import Table
    from rich.text import Text

    signs: dict[Status, tuple[str, str]] = {
        "ok": ("✓ ok", "green"),
        "warn": ("! warn", "yellow"),
        "fail": ("✗ fail", "bold red"),
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, max_width=32)
    table.add_column(overflow="fold")
    for check in checks:
        sign, style = signs[check.status]
        what = Text(check.detail)
        if check.advice:
            what.append(f"\n→ {check.advice}", style="bold")
        # Text, not markup: a path or camera message may hold [brackets].
        table.add_row(Text(sign, style=style), Text(check.name), what)
    console.print(table)
