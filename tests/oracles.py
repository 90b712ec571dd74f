"""Programs that the project is compared with, each in an environment of its own under build/oracles."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

_FOLDER = Path(__file__).resolve().parents[1] / "build" / "oracles"

_FORWARD = """
import sys
import cv2
import numpy as np
prototxt, model, numbers, result, *names = sys.argv[1:]
net = cv2.dnn.readNetFromCaffe(prototxt, model)
net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
net.enableFusion(False)
net.setInput(np.load(numbers))
np.savez(result, **dict(zip(names, net.forward(names))))
"""


def opencv_4() -> Path:
    """A Python with OpenCV 4.13, the last that reads Caffe's files; skips the test where pip cannot bring it."""
    folder = _FOLDER / "opencv-4.13"
    python = folder / "bin" / "python"
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (_FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            try:
                subprocess.run(
                    [sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, timeout=120
                )
                package = "opencv-python-headless==4.13.*"
                command = [str(python), "-m", "pip", "install", "--quiet", "--timeout", "15", package]
                subprocess.run(command, check=True, capture_output=True, timeout=240)
            except (subprocess.SubprocessError, OSError) as error:
                if os.environ.get("CI") == "true":
                    raise
                pytest.skip(f"pip cannot bring OpenCV 4.13 here: {error}")
            (folder / "ready").touch()
    return python


def opencv_forward(
    python: Path, prototxt: Path, model: Path, x: NDArray[np.float32], names: list[str]
) -> dict[str, NDArray[np.float32]]:
    """What OpenCV's own reader and network give at the layers of these names for a batch (n, 3, side, side)."""
    numbers, result = model.with_name("input.npy"), model.with_name("result.npz")
    np.save(numbers, x)
    command = [str(python), "-c", _FORWARD, *map(str, (prototxt, model, numbers, result)), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with np.load(result) as found:
        return {name: found[name] for name in names}
