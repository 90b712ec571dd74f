"""Resident memory of the daemon with four idle 1080p cameras, a sample every 2 s, and the embedded network.

The cameras show one still yard, 1080p25 H.264: as files played in real time, or, with --rtspsim, as RTSP streams served
by that script (run by the system's Python as `rtspsim.py PORT name=file …`). Memory is read from /proc, once a second.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _common import BUILD, Check, Outcome, options_of, say, show, yard_still_clip

TARGET_MB = 900.0


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def memory_mb(pid: int) -> tuple[float, float | None]:
    """(resident, proportional) size in MB of 10⁶ bytes: the second counts shared pages by share."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        rollup = ""
    return _kilobytes("VmRSS", status) or 0.0, _kilobytes("Pss", rollup)


def _kilobytes(name: str, text: str) -> float | None:
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else None


def config_of(urls: Sequence[str], folder: Path, *, realtime: bool) -> Path:
    lines = [f"data_dir: {folder / 'data'}", "network: lite0", "metrics:", "  listen: null", "cameras:"]
    for number, url in enumerate(urls, 1):
        lines += [f"  - name: camera{number}", f"    url: {url}", "    every: 2s"]
        lines += ["    realtime: true"] if realtime else []
    path = folder / "site.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def slope_mb_per_min(times_s: Sequence[float], values: Sequence[float]) -> float | None:
    """Of a straight line through the second half; None for too few readings."""
    import numpy as np

    half = len(times_s) // 2
    if len(times_s) - half < 2:
        return None
    return round(float(np.polyfit(times_s[half:], values[half:], 1)[0] * 60), 2)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the daemon runs (default: 60)")
    parser.add_argument("--cameras", type=int, default=4, help="default: 4")
    parser.add_argument("--rtspsim", type=Path, metavar="SCRIPT", help="serve the clip as RTSP with this script")
    parser.add_argument("--python", default="/usr/bin/python3", help="runs SCRIPT (default: /usr/bin/python3)")
    options = parser.parse_args()
    size = (1920, 1080)
    if options.quick:
        options.seconds, options.cameras, size = 6.0, 2, (320, 180)
    # Files must outlast the run, and loading the network takes seconds; streams are looped.
    clip = yard_still_clip(duration_s=12.0 if options.rtspsim else options.seconds + 20, size=size)
    server: subprocess.Popen[bytes] | None = None
    urls = [str(clip)] * options.cameras
    if options.rtspsim:
        port = free_port()
        names = [f"camera{number}" for number in range(1, options.cameras + 1)]
        served = [f"{name}={clip}" for name in names]
        server = subprocess.Popen(
            [options.python, str(options.rtspsim), str(port), *served], stdout=subprocess.DEVNULL, cwd=BUILD
        )
        urls = [f"rtsp://127.0.0.1:{port}/{name}" for name in names]
        time.sleep(5)
    readings: list[tuple[float, float, float | None]] = []
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(urls, Path(folder), realtime=server is None)
        log = Path(folder) / "log"
        with log.open("wb") as output:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "streamwatch", "watch", "--config", str(config)], stdout=output, stderr=output
            )
        started_s = time.monotonic()
        try:
            while time.monotonic() - started_s < options.seconds:
                time.sleep(1)
                if daemon.poll() is not None:
                    raise RuntimeError(f"the daemon ended with {daemon.returncode}: {log.read_text(errors='replace')}")
                readings.append((time.monotonic() - started_s, *memory_mb(daemon.pid)))
        finally:
            if daemon.poll() is None:
                daemon.terminate()
            daemon.wait(timeout=20)
            if server is not None:
                server.terminate()
                server.wait(timeout=20)
        seen = len(re.findall(r"pictures of", log.read_text(errors="replace")))
    if seen != options.cameras:
        say(f"only {seen} of {options.cameras} cameras were seen")
    times_s, resident, proportional = zip(*readings, strict=True)
    outcome = Outcome(
        bench="daemon_memory",
        claim=f"The daemon with {options.cameras} idle cameras of {size[0]}×{size[1]} stays small",
        settings={
            "seconds": options.seconds,
            "every": "2 s",
            "network": "lite0",
            "cameras": "RTSP" if options.rtspsim else "files in real time",
            "MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "unset"),
        },
        rows=[
            {
                "cameras": f"{seen} of {options.cameras}",
                "RSS at the end, MB": round(resident[-1], 1),
                "most": round(max(resident), 1),
                "PSS at the end, MB": None if proportional[-1] is None else round(proportional[-1], 1),
                "RSS slope, MB a minute": slope_mb_per_min(times_s, resident),
            }
        ],
        checks=[Check(name="RSS, MB", value=round(max(resident), 1), target=TARGET_MB)],
        details={"readings": [[value and round(value, 1) for value in reading] for reading in readings]},
    )
    show(outcome, as_json=options.json)


if __name__ == "__main__":
    main()
