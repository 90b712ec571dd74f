"""The doctor: what it says of a machine, a configuration and cameras that answer, refuse or hang."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from streamwatch.config import CameraConfig, Config, ListenAddress, load_config
from streamwatch.doctor import (
    Check,
    check_camera,
    check_cameras,
    check_data_dir,
    check_decoders,
    check_device,
    check_embedded_weights,
    check_opencv,
    check_packages,
    check_port,
    check_weights,
    print_checks,
    run_checks,
    to_json,
    worst,
)
from streamwatch.errors import SourceLost, SourceUnauthorized
from streamwatch.records import RGB, Frame

SECRET = "c4nary-S3cret"


class GreyPicture:
    width, height = 640, 480

    def rgb(self, *, width: int | None = None, height: int | None = None) -> RGB:
        return np.full((height or self.height, width or self.width, 3), 128, dtype=np.uint8)


class OneFrame:
    """A camera that answers at once."""

    live = True

    def __init__(self) -> None:
        self.closed = False

    def frames(self) -> Iterator[Frame]:
        yield Frame(pts_s=0.0, captured_at=None, picture=GreyPicture())

    def close(self) -> None:
        self.closed = True


class Silent(OneFrame):
    """A camera that takes the connection and says nothing until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._over = threading.Event()

    def frames(self) -> Iterator[Frame]:
        self._over.wait(30)
        yield from ()

    def close(self) -> None:
        super().close()
        self._over.set()


class Refusing(OneFrame):
    """A camera that fails with the error given."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def frames(self) -> Iterator[Frame]:
        raise self._error
        yield


def camera(name: str = "yard", **keys: object) -> CameraConfig:
    return CameraConfig.model_validate({"name": name, "url": f"rtsp://u:{SECRET}@192.0.2.1/a?key={SECRET}", **keys})


@pytest.fixture
def configured(tmp_path: Path) -> Callable[[str], Config]:
    def configured(text: str = "") -> Config:
        path = tmp_path / "site.yaml"
        path.write_text(f"data_dir: data\nmetrics: {{listen: null}}\n{text}\ncameras: [{{name: a, url: clip.mp4}}]\n")
        return load_config(path, environ={})

    return configured


def test_this_machine_can_run_streamwatch() -> None:
    # When the checks that need no configuration run where the tests run
    checks = [check_packages(), check_opencv(), check_decoders(), check_device("cpu"), check_embedded_weights()]
    # Then all is well, and the versions are there to be pasted into a report
    assert [check.status for check in checks] == ["ok"] * 5
    assert "torch 2." in checks[0].detail
    assert "H.264, H.265" in checks[2].detail
    assert checks[4].detail == "lite0, sha256:579344248a93e230"


def test_without_a_configuration_only_the_machine_is_looked_at() -> None:
    names = [check.name for check in run_checks(None, open_camera=lambda _: OneFrame())]
    assert names == ["python", "packages", "opencv", "decoders", "embedded weights", "device"]


def test_with_a_configuration_its_folder_weights_and_cameras_are_looked_at(configured: Callable[[str], Config]) -> None:
    checks = run_checks(configured("network: lite0"), open_camera=lambda _: OneFrame())
    assert [check.name for check in checks[6:]] == ["weights", "data_dir", "disk", "camera a"]
    assert worst(checks) != "fail"


def test_a_gpu_that_is_not_there_is_a_failure() -> None:
    check = check_device("cuda:99")
    assert check.status == "fail"
    assert "cuda:99" in check.detail


def test_weights_that_are_not_cached_yet_are_a_warning(
    configured: Callable[[str], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an empty cache
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    # Then VGG16 would be downloaded, the embedded network is at hand, and a missing file fails
    vgg = check_weights(configured("network: vgg16"))
    assert (vgg.status, "vgg16-397923af.pth is not in" in vgg.detail) == ("warn", True)
    assert check_weights(configured("network: lite0")).status == "ok"
    missing = check_weights(configured("network: vgg16\nweights: none.pth"))
    assert (missing.status, str(tmp_path / "none.pth") in missing.detail) == ("fail", True)
    assert check_weights(configured("network: vgg61")).status == "fail"


def test_the_network_that_auto_chose_for_the_data_folder_once_is_looked_at(
    configured: Callable[[str], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an empty cache, and a data folder that VGG16 was chosen for, when it was at hand
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/network.json").write_text('{"network": "vgg16", "weights": null}')
    # Then the doctor tells what `watch` would do: download it, rather than take the embedded network
    check = check_weights(configured(""))
    assert check.status == "warn"
    assert check.detail.startswith("vgg16: chosen for ")
    # And a choice of the configuration's own goes before
    assert check_weights(configured("network: lite0")).status == "ok"


def test_a_check_that_fails_itself_is_a_finding_under_its_own_name(
    configured: Callable[[str], Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a check with a bug in it
    def bug(path: Path) -> Check:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("streamwatch.doctor.check_disk", bug)
    # Then its finding stands where it would have stood, and the others are there
    checks = {check.name: check for check in run_checks(configured("network: lite0"), open_camera=lambda _: OneFrame())}
    assert checks["disk"].status == "fail"
    assert checks["disk"].detail == "the check itself failed: ZeroDivisionError: a bug"
    assert "camera a" in checks


def test_a_data_dir_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    assert check_data_dir(tmp_path).detail.endswith("can be written")
    assert list(tmp_path.iterdir()) == []
    new = tmp_path / "a/b"
    assert (check_data_dir(new).status, new.exists()) == ("ok", False)


def test_a_data_dir_that_cannot_be_made_is_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    check = check_data_dir(file / "data")
    assert (check.status, check.detail) == ("fail", f"{file} is a file, expected a folder")
    # /proc takes no files, not even root's
    assert check_data_dir(Path("/proc")).status == "fail"


def test_json_is_ascii_whatever_a_check_found() -> None:
    check = Check(name="data_dir", status="ok", detail="caf\udce9 × 2")
    text = to_json([check])
    assert text.isascii()
    assert json.loads(text)["checks"][0]["detail"] == check.detail


def test_a_port_in_use_is_a_warning_as_streamwatch_may_be_running() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = ListenAddress(host="127.0.0.1", port=server.getsockname()[1])
        taken = check_port(address)
    assert (taken.status, f"cannot serve metrics on {address}: " in taken.detail) == ("warn", True)
    assert check_port(address).status == "ok"


def test_a_camera_that_answers_shows_its_size_and_no_secret() -> None:
    source = OneFrame()
    check = check_camera(camera(), open_camera=lambda _: source)
    assert check.status == "ok"
    assert check.detail.startswith("rtsp://192.0.2.1/a?key=***: 640×480, first picture after ")
    assert source.closed


def test_a_camera_that_hangs_is_given_up_after_its_own_timeouts() -> None:
    source = Silent()
    started_s = time.monotonic()
    check = check_camera(camera(open_timeout="100ms", read_timeout="200ms"), open_camera=lambda _: source)
    assert time.monotonic() - started_s < 5
    assert (check.status, "no picture within 0.3 s" in check.detail) == ("fail", True)
    assert source.closed


def test_a_wrong_password_says_so_and_is_not_shown() -> None:
    # Given a camera whose error, against the rules, holds the password and the whole URL
    error = SourceUnauthorized(f"401 for rtsp://u:{SECRET}@192.0.2.1/a?key={SECRET}")
    check = check_camera(camera(), open_camera=lambda _: Refusing(error))
    # Then the reason stands and the secret does not
    assert (check.status, "401" in check.detail) == ("fail", True)
    assert "password" in check.advice
    assert SECRET not in to_json([check])


def test_one_lost_camera_does_not_hide_the_others() -> None:
    def open_camera(wanted: CameraConfig) -> OneFrame:
        return Refusing(SourceLost("connection refused")) if wanted.name == "b" else OneFrame()

    checks = check_cameras([camera(name) for name in "abc"], open_camera=open_camera)
    assert [(check.name, check.status) for check in checks] == [
        ("camera a", "ok"),
        ("camera b", "fail"),
        ("camera c", "ok"),
    ]


def test_an_error_nobody_foresaw_is_a_finding_and_no_traceback() -> None:
    check = check_camera(camera(), open_camera=lambda _: Refusing(ZeroDivisionError("x")))
    assert (check.status, "ZeroDivisionError" in check.detail) == ("fail", True)


def test_the_json_has_the_worst_status_first() -> None:
    checks = [Check(name="a", status="ok", detail="fine"), Check(name="b", status="warn", detail="low", advice="do")]
    assert json.loads(to_json(checks)) == {
        "status": "warn",
        "checks": [
            {"name": "a", "status": "ok", "detail": "fine", "advice": ""},
            {"name": "b", "status": "warn", "detail": "low", "advice": "do"},
        ],
    }
    assert worst([*checks, Check(name="c", status="fail", detail="x")]) == "fail"


def test_the_table_takes_text_for_text() -> None:
    # Given a detail that rich would take for markup
    console = Console(width=80, record=True, file=io.StringIO())
    print_checks([Check(name="x", status="fail", detail="[red]a[/]", advice="do that")], console)
    # Then it is printed as it is, with the advice below
    text = console.export_text()
    assert "✗ fail" in text
    assert "[red]a[/]" in text
    assert "→ do that" in text
