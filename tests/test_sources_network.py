from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamwatch.errors import SourceError, SourceLost, SourceTimeout, SourceUnauthorized, SourceUnusable
from streamwatch.sources import open_source
from tests.rtsp import free_port, rtsp_camera
from tests.videos import number_of, write_video
from tests.web import serve_answer, serve_folder

PASSWORD = "hun@ter2:50%/x"
CODED = "hun%40ter2%3A50%25%2Fx"


def failure(url: str, **options: object) -> SourceError:
    with pytest.raises(SourceError) as caught:
        list(open_source(url, every_s=1.0, **options).frames())  # type: ignore[arg-type]
    return caught.value


def said(error: BaseException | None) -> str:
    """All that an exception and its causes hold."""
    if error is None:
        return ""
    return f"{error} {error!r} {error.args} {said(error.__cause__)} {said(error.__context__)}"


@contextmanager
def black_hole() -> Iterator[str]:
    """A port that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("way", ["in the url", "in the url, raw", "apart"])
def test_a_camera_with_a_password_opens_however_it_is_given(
    tmp_path: Path, way: str, capfd: pytest.CaptureFixture[str]
) -> None:
    # Given a camera with an awkward password
    video = write_video(tmp_path / "a.mp4", frames=100, gop=25)
    with rtsp_camera(video, user="cam", password=PASSWORD) as (place, _):
        url = {
            "in the url": f"rtsp://cam:{CODED}@{place}",
            "in the url, raw": f"rtsp://cam:{PASSWORD}@{place}",
            "apart": f"rtsp://{place}",
        }[way]
        options = {"username": "cam", "password": PASSWORD} if way == "apart" else {}
        # When it is opened
        started_s = time.monotonic()
        frame = next(open_source(url, every_s=1.0, **options).frames())  # type: ignore[arg-type]
        # Then there is a picture soon
        print(f"first RTSP frame after {time.monotonic() - started_s:.3f} s")
        assert frame.picture.width == 96
    assert "hun" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("password", ["wrong@hun", "", None])
def test_a_wrong_password_is_told_from_other_failures_and_never_shown(
    tmp_path: Path, password: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    # Given a camera with a password
    video = write_video(tmp_path / "a.mp4", frames=50)
    with rtsp_camera(video, user="cam", password=PASSWORD) as (place, _):
        # When it is opened with another
        error = failure(f"rtsp://{place}?token=hunt", username="cam", password=password)
        # Then the message names the camera, and nothing holds what was tried
        assert isinstance(error, SourceUnauthorized)
        assert place in str(error)
        assert "hun" not in said(error)
        # And a path that it does not have is another matter (with the right password)
        error = failure(f"rtsp://cam:{CODED}@{place}/none")
        assert isinstance(error, SourceUnusable)
        assert not isinstance(error, SourceUnauthorized)
        assert "404" in str(error)
        assert "hun" not in said(error)
    assert "hun" not in "".join(capfd.readouterr())


def test_a_live_camera_switches_to_key_frames_and_none_comes_late(tmp_path: Path) -> None:
    # Given a camera with a key frame every second
    video = write_video(tmp_path / "a.mp4", frames=125, gop=25)
    with rtsp_camera(video) as (place, _):
        source = open_source(f"rtsp://{place}", every_s=1.0)
        modes: list[str] = []
        late: list[tuple[float, int]] = []
        # When it is watched for a while
        for frame in source.frames():
            modes.append(source.decode_mode)
            if source.decode_mode == "keyframes":
                late.append((frame.pts_s, number_of(frame.picture.rgb())))
            if frame.pts_s > 4.5:
                break
        # Then it begins with every frame and goes on with key frames, each out as soon as it is there
        assert modes[0] == "all"
        assert modes[-1] == "keyframes"
        shown_s = [(number % 125) / 25 for _, number in late]
        assert len(late) >= 3
        assert all(number % 25 == 0 for _, number in late[1:])
        lags_s = [(arrived_s - at_s) % 5 for (arrived_s, _), at_s in zip(late, shown_s, strict=True)]
        assert max(lags_s) - min(lags_s) < 0.5


def test_a_camera_that_dies_is_lost_and_one_that_freezes_times_out(tmp_path: Path) -> None:
    # Given two cameras that are being watched
    video = write_video(tmp_path / "a.mp4", frames=100)
    for stop, kind, within_s in ((signal.SIGKILL, SourceLost, 2.0), (signal.SIGSTOP, SourceTimeout, 4.0)):
        with rtsp_camera(video) as (place, server):
            frames = open_source(f"rtsp://{place}", every_s=1.0, read_timeout_s=1.0).frames()
            next(frames)
            # When one is killed, the other frozen
            server.send_signal(stop)
            started_s = time.monotonic()
            with pytest.raises(kind) as caught:
                for _ in frames:
                    pass
            # Then it is noticed in time, and the message names it
            assert time.monotonic() - started_s < within_s
            assert place in str(caught.value)


def test_nobody_there_and_nobody_answering_are_told_apart() -> None:
    # Given a port where nobody listens, and one that never answers
    for scheme in ("rtsp", "http"):
        refused = failure(f"{scheme}://cam:hunter2@127.0.0.1:{free_port()}/x")
        with black_hole() as place:
            started_s = time.monotonic()
            silent = failure(f"{scheme}://cam:hunter2@{place}/x", open_timeout_s=0.5, read_timeout_s=0.5)
            waited_s = time.monotonic() - started_s
        # When / Then
        assert type(refused) is SourceLost
        assert "refused the connection" in str(refused)
        assert type(silent) is SourceTimeout
        assert waited_s < 3
        assert "hunter2" not in said(refused) + said(silent)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, SourceUnauthorized),
        (403, SourceUnauthorized),
        (404, SourceUnusable),
        (410, SourceUnusable),
        (400, SourceUnusable),
        (500, SourceLost),
        (503, SourceLost),
    ],
)
@pytest.mark.parametrize("path", ["live", "film.mp4"])
def test_each_answer_of_a_web_server_has_its_meaning(status: int, kind: type[SourceError], path: str) -> None:
    with serve_answer(status) as address:
        error = failure(f"{address}/{path}?pwd=hunter2")
        assert type(error) is kind
        assert "hunter2" not in said(error)


def test_a_web_page_is_no_camera() -> None:
    with serve_answer(200, body=b"<html><body>Log in, please</body></html>" * 50) as address:
        error = failure(f"{address}/live")
        assert type(error) is SourceLost
        assert "not with video" in str(error)


def test_a_film_on_a_web_server_is_a_film_and_a_stream_there_is_a_camera(tmp_path: Path) -> None:
    # Given the same film as MP4 and as an endless-looking address
    write_video(tmp_path / "film.mp4", frames=50, bframes=2)
    write_video(tmp_path / "live", frames=50, container="mpegts")
    with serve_folder(tmp_path) as address:
        # When both are read
        film = open_source(f"{address}/film.mp4", every_s=0.1)
        camera = open_source(f"{address}/live", every_s=0.1)
        frames = list(film.frames())
        # Then the film has its own times and an end; the camera's end is a loss
        assert not film.live
        assert [frame.pts_s for frame in frames] == pytest.approx([index / 25 for index in range(50)])
        assert camera.live
        live = camera.frames()
        assert len([next(live) for _ in range(50)]) == 50
        with pytest.raises(SourceLost, match="ended the stream"):
            next(live)


def test_a_network_film_that_breaks_off_says_so(tmp_path: Path) -> None:
    # Given a server that sends half a film
    data = write_video(tmp_path / "film.mp4", frames=500, options={"movflags": "faststart"}).read_bytes()
    with serve_answer(200, body=data[: len(data) // 2], headers={"Accept-Ranges": "none"}) as address:
        source = open_source(f"{address}/film.mp4", every_s=0.1)
        # When it is read
        frames = list(source.frames())
        # Then what came is there, and a warning
        assert 100 < len(frames) < 400
        assert any(warning.startswith("cut off") for warning in source.warnings)


def test_a_multicast_style_camera_is_read_over_udp(tmp_path: Path) -> None:
    # Given a camera that sends MPEG-TS over UDP
    video = write_video(tmp_path / "a.ts", frames=250, gop=12)
    port = free_port()
    stop = threading.Event()

    def send() -> None:
        packets = video.read_bytes()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while not stop.is_set():
                for start in range(0, len(packets), 1316):
                    out.sendto(packets[start : start + 1316], ("127.0.0.1", port))
                    if stop.wait(0.01):
                        return

    sender = threading.Thread(target=send)
    sender.start()
    try:
        # When it is watched
        source = open_source(f"udp://127.0.0.1:{port}", every_s=0.5, read_timeout_s=2.0)
        frames = source.frames()
        seen = [next(frames) for _ in range(5)]
        assert seen[-1].picture.width == 96
        # Then once it falls silent, that is noticed
        stop.set()
        with pytest.raises(SourceTimeout):
            for _ in frames:
                pass
    finally:
        stop.set()
        sender.join()


def test_a_host_that_does_not_exist_may_be_there_later() -> None:
    # Given a host that no name server knows
    error = failure("rtsp://cam:hunter2@no-such-host.invalid/x", open_timeout_s=3.0)
    # When / Then
    assert isinstance(error, SourceLost)
    assert "rtsp://***@no-such-host.invalid/x" in str(error)
    assert "hunter2" not in said(error)
