from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from streamwatch.clock import ManualClock
from streamwatch.errors import SourceLost, SourceUnusable, UsageError
from streamwatch.records import Frame
from streamwatch.sampling import Sampler
from streamwatch.sources import DecodeOption, Source, open_source
from tests.videos import cut, number_of, numbered, write_video


def numbers(frames: list[Frame]) -> list[int]:
    return [number_of(frame.picture.rgb()) for frame in frames]


def samples(source: Source, every_s: float) -> list[Frame]:
    sampler = Sampler(every_s)
    return [frame for frame in source.frames() if sampler.take(frame.pts_s)]


def test_key_frames_alone_are_decoded_where_they_come_often_enough(tmp_path: Path) -> None:
    # Given 10 s with a key frame every 2 s
    path = write_video(tmp_path / "clip.mp4", frames=250, gop=50, bframes=2)
    # When it is read for a sample every 2 s
    source = open_source(str(path), every_s=2.0)
    frames = list(source.frames())
    # Then exactly the key frames come out, at their times
    assert source.decode_mode == "keyframes"
    assert numbers(frames) == [0, 50, 100, 150, 200]
    assert [frame.pts_s for frame in frames] == pytest.approx([0, 2, 4, 6, 8])
    assert source.duration_s == pytest.approx(10.0)
    assert source.size == (96, 64)
    assert source.warnings == ()


def test_everything_is_decoded_where_key_frames_are_too_rare(tmp_path: Path) -> None:
    # Given a key frame every 2 s
    path = write_video(tmp_path / "clip.mp4", frames=120, gop=50, bframes=2)
    # When a sample every second is wanted
    source = open_source(str(path), every_s=1.0)
    frames = list(source.frames())
    # Then every frame comes out, in order
    assert source.decode_mode == "all"
    assert numbers(frames) == list(range(120))


def test_of_many_key_frames_only_those_near_a_sample_are_decoded(tmp_path: Path) -> None:
    # Given a Motion JPEG, all of whose 250 frames are key frames
    path = write_video(tmp_path / "clip.avi", frames=250, codec="mjpeg")
    # When a sample every 2 s is wanted
    frames = list(open_source(str(path), every_s=2.0).frames())
    # Then only these were decoded
    assert numbers(frames) == pytest.approx([0, 50, 100, 150, 200], abs=1)


@pytest.mark.parametrize("decode", ["auto", "keyframes", "all"])
def test_samples_are_the_same_whatever_is_decoded(tmp_path: Path, decode: DecodeOption) -> None:
    # Given a key frame every second
    path = write_video(tmp_path / "clip.mkv", frames=200, gop=25, bframes=2)
    # When it is sampled every 2 s
    found = numbers(samples(open_source(str(path), every_s=2.0, decode=decode), 2.0))
    # Then the samples are the frames nearest to the due times
    assert found == pytest.approx([0, 50, 100, 150], abs=1)


def test_when_key_frames_stop_in_a_file_no_sample_is_lost(tmp_path: Path) -> None:
    # Given 40 s that begin with a key frame every 2 s, and then have none for 20 s
    keys = [index for index in range(0, 401, 20) if index <= 320]
    path = write_video(tmp_path / "clip.mp4", frames=540, fps=10, gop=1000, keys=keys)
    # When it is sampled every 2 s
    source = open_source(str(path), every_s=2.0)
    found = samples(source, 2.0)
    # Then there is a sample for each due time to the end, each the nearest frame
    assert numbers(found) == pytest.approx(list(range(0, 540, 20)), abs=1)
    assert source.decode_mode == "all"
    # And before that, only key frames had been decoded
    assert len(list(source.frames())) < 540 - 300


def test_a_picture_that_is_refreshed_bit_by_bit_has_no_key_frames_to_rely_on(tmp_path: Path) -> None:
    # Given a camera's recording in which columns are refreshed in turn, each round marked as a key frame
    path = write_video(tmp_path / "clip.ts", frames=150, gop=25, codec_options={"intra-refresh": "1"})
    # When it is sampled every second
    source = open_source(str(path), every_s=1.0)
    found = samples(source, 1.0)
    # Then everything is decoded, and no sample is missing
    assert source.decode_mode == "all"
    assert numbers(found) == pytest.approx([0, 25, 50, 75, 100, 125], abs=1)


def test_a_variable_frame_rate_keeps_the_videos_own_times(tmp_path: Path) -> None:
    # Given a film whose frames come at irregular times, beginning late
    times_s = [3.0, 3.04, 3.5, 4.9, 5.0, 5.1, 9.0]
    path = write_video(tmp_path / "clip.mkv", frames=7, times_s=times_s)
    # When it is read
    frames = list(open_source(str(path), every_s=0.1, decode="all").frames())
    # Then the times are those of the file, from its first frame
    assert [frame.pts_s for frame in frames] == pytest.approx([time_s - 3.0 for time_s in times_s], abs=2e-3)
    assert numbers(frames) == list(range(7))
    assert all(frame.captured_at is None for frame in frames)


def test_a_stream_without_time_stamps_counts_frames(tmp_path: Path) -> None:
    # Given a bare H.264 stream, which has no times
    path = write_video(tmp_path / "clip.h264", frames=101, gop=50, container="h264")
    for decode, expected in (("all", [index / 25 for index in range(101)]), ("auto", [0.0, 2.0, 4.0])):
        # When / Then
        frames = list(open_source(str(path), every_s=2.0, decode=decode).frames())  # type: ignore[arg-type]
        assert [frame.pts_s for frame in frames] == pytest.approx(expected)


def test_times_that_are_guessed_are_warned_of(tmp_path: Path) -> None:
    # Given bare streams, which have no times, and a file that has them
    bare = write_video(tmp_path / "clip.h264", frames=20, fps=10, container="h264")
    pictures = write_video(tmp_path / "clip.mjpeg", frames=20, fps=10, container="mjpeg", codec="mjpeg")
    timed = write_video(tmp_path / "clip.mp4", frames=20, fps=10)
    for path, told in ((bare, True), (pictures, True), (timed, False)):
        source = open_source(str(path), every_s=0.5)
        assert list(source.frames())
        # Then the former say so
        assert ("the file holds no times: they are guessed at 25 frames per second" in source.warnings) is told


def test_a_piece_of_music_with_a_cover_holds_sound_and_an_attached_picture(tmp_path: Path) -> None:
    # Given sound with a cover
    with av.open(str(tmp_path / "song.mp4"), "w") as output:
        track = output.add_stream("aac", rate=8000)
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        output.mux(track.encode(sound))
        output.mux(track.encode(None))
        output.mux(cover.encode(av.VideoFrame.from_ndarray(numbered(1), format="rgb24")))
        output.mux(cover.encode(None))
    # When / Then
    with pytest.raises(SourceUnusable, match=r"no video track \(it holds: attached picture, audio\)"):
        list(open_source(str(tmp_path / "song.mp4"), every_s=1.0).frames())


@pytest.mark.parametrize("url", ["https://nonexistent.invalid/x.mp4", "rtsp://u:hunter2@nonexistent.invalid/x"])
def test_a_host_that_nobody_knows_is_named(url: str) -> None:
    with pytest.raises(SourceLost, match=r"the host name nonexistent\.invalid cannot be found") as caught:
        list(open_source(url, every_s=1.0).frames())
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clip.mp4", {"movflags": "faststart"}),
        ("clip.mkv", {}),
        ("clip.avi", {}),
        ("clip.ts", {}),
    ],
)
@pytest.mark.parametrize("every_s", [0.2, 2.0])
def test_a_file_that_is_cut_off_gives_what_is_there_and_says_so(
    tmp_path: Path, name: str, options: dict[str, str], every_s: float
) -> None:
    # Given a recording of 20 s, of which half the bytes were kept
    path = cut(write_video(tmp_path / name, frames=500, gop=50, size=(320, 240), options=options), share=0.503)
    # When it is read
    source = open_source(str(path), every_s=every_s)
    frames = list(source.frames())
    # Then there are frames up to about the cut, and then a warning
    assert frames[-1].pts_s > 5
    assert source.duration_s is not None
    assert 5 < source.duration_s < 15
    assert [warning for warning in source.warnings if warning.startswith("cut off")]


def test_a_whole_file_is_never_called_cut_off(tmp_path: Path) -> None:
    # Given whole files of every kind
    for name in ("a.mp4", "a.mkv", "a.avi", "a.ts", "a.webm"):
        path = write_video(tmp_path / name, frames=100, codec="libvpx" if name == "a.webm" else "libx264")
        source = open_source(str(path), every_s=0.2)
        # When / Then
        assert len(list(source.frames())) == 100
        assert source.warnings == (), name
        assert source.duration_s == pytest.approx(4.0, abs=0.05)


def test_damage_in_the_middle_is_counted_and_passed_over(tmp_path: Path) -> None:
    # Given a Motion JPEG, one of whose pictures was overwritten
    path = write_video(tmp_path / "clip.avi", frames=100, codec="mjpeg")
    data = bytearray(path.read_bytes())
    place = -1
    for _ in range(40):
        place = data.index(b"\xff\xd8\xff", place + 1)
    end = data.index(b"00dc", place)
    data[place:end] = bytes(end - place)
    path.write_bytes(data)
    # When it is read
    source = open_source(str(path), every_s=0.1, decode="all")
    frames = list(source.frames())
    # Then the others come out at their own times, and a warning tells how many did not
    assert numbers(frames) == [index for index in range(100) if index != 39]
    assert frames[-1].pts_s == pytest.approx(99 / 25)
    assert source.warnings == ("1 damaged packet left out",)


def test_each_way_a_file_can_be_no_video_has_a_message_of_its_own(tmp_path: Path) -> None:
    # Given files that are no videos, for different reasons
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "garbage.mp4").write_bytes(os.urandom(5000))
    (tmp_path / "notes.txt").write_text("hello world\n" * 100)
    cut(write_video(tmp_path / "unfinished.mp4"), share=0.8)
    with av.open(str(tmp_path / "sound.wav"), "w") as output:
        track = output.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        output.mux(track.encode(sound))
    whole = write_video(tmp_path / "whole.avi", frames=3).read_bytes()
    (tmp_path / "frameless.avi").write_bytes(whole[: whole.index(b"movi") + 4])
    for name, words in {
        "missing.mp4": "no such file",
        "empty.mp4": "is empty",
        "garbage.mp4": "no video that can be read",
        "notes.txt": "text file",
        "unfinished.mp4": "no index .moov.: the recording was not finished",
        "sound.wav": "no video track .it holds: audio.",
        "frameless.avi": "without frames",
    }.items():
        # When / Then
        with pytest.raises(SourceUnusable, match=words) as caught:
            list(open_source(str(tmp_path / name), every_s=1.0).frames())
        assert name in str(caught.value)
        assert caught.value.__context__ is None


def test_a_name_with_a_colon_is_a_path_and_a_playlist_opens_no_server(tmp_path: Path) -> None:
    # Given a video with an odd name
    path = write_video(tmp_path / "cam:1 50%d.mp4", frames=10)
    # When / Then it opens, by path and by URL
    assert len(list(open_source(str(path), every_s=0.1).frames())) == 10
    assert len(list(open_source(path.as_uri(), every_s=0.1).frames())) == 10
    # And a local playlist that names a server does not lead there
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(SourceUnusable):
        list(open_source(str(playlist), every_s=1.0).frames())


@pytest.mark.parametrize(
    "options", [{"every_s": 0.0}, {"decode": "some"}, {"read_timeout_s": 0.0}, {"hwaccel": "abacus"}]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        open_source("clip.mp4", **{"every_s": 1.0, **options})  # type: ignore[arg-type]


def test_an_unknown_protocol_is_refused_without_its_password() -> None:
    with pytest.raises(SourceUnusable, match="gopher") as caught:
        open_source("gopher://me:hunter2@host/x", every_s=1.0)
    assert "hunter2" not in str(caught.value)


def test_pictures_convert_right_in_many_threads_after_the_file_is_closed(tmp_path: Path) -> None:
    # Given the pictures of a file that is closed by now
    path = write_video(tmp_path / "clip.mp4", frames=30, size=(320, 240))
    frames = list(open_source(str(path), every_s=0.1).frames())
    found: dict[int, list[int]] = {}

    # When four threads convert all of them at once
    def convert(worker: int) -> None:
        found[worker] = [number_of(frame.picture.rgb(width=96, height=64)) for frame in frames]

    threads = [threading.Thread(target=convert, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    # Then each got every one right
    assert found == {worker: list(range(30)) for worker in range(4)}


@pytest.mark.parametrize("size", [(48, 32), (1, 1), (192, 128), (96, 8), (500, 3)])
def test_a_picture_has_the_size_asked_for_and_keeps_its_brightness(tmp_path: Path, size: tuple[int, int]) -> None:
    # Given a picture half black and half white
    path = write_video(tmp_path / "clip.mp4", frames=1)
    picture = next(iter(open_source(str(path), every_s=1.0).frames())).picture
    black = picture.rgb(width=size[0], height=size[1])
    assert black.shape == (size[1], size[0], 3)
    assert black.mean() < 3
    # When / Then: no darker and no brighter than its source, which is black
    assert np.abs(picture.rgb().mean() - numbered(0).mean()) < 2


def test_shrinking_averages_without_a_shift_in_brightness(tmp_path: Path) -> None:
    # Given a picture with detail (number 0b010101010101 in bars of 8 pixels)
    path = write_video(tmp_path / "clip.mp4", frames=1366)
    *_, last = open_source(str(path), every_s=0.04, decode="all").frames()
    full = last.picture.rgb()
    assert number_of(full) == 1365
    # When it is shrunk four times
    small = last.picture.rgb(width=24, height=16)
    # Then each pixel is the mean of its area, within rounding, and nothing is darker
    means = full.reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))
    assert abs(float(small.mean() - means.mean())) < 0.6
    assert np.abs(small - means).mean() < 2


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_phones_film_comes_out_upright(tmp_path: Path, quarter_turns: int) -> None:
    # Given a film that says, as phones do, by how much it has to be turned
    path = write_video(tmp_path / "clip.mp4", frames=1366)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    a, b, c, d = {1: (0, -one, one, 0), 2: (-one, 0, 0, -one), 3: (0, one, -one, 0)}[quarter_turns]
    for place, value in zip((0, 4, 12, 16), (a, b, c, d), strict=True):
        data[matrix + place : matrix + place + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    # When it is read
    *_, last = open_source(str(path), every_s=0.04, decode="all").frames()
    # Then its pictures are turned so, counter-clockwise
    assert (last.picture.width, last.picture.height) == ((96, 64) if quarter_turns == 2 else (64, 96))
    pixels = last.picture.rgb(width=last.picture.width, height=last.picture.height)
    assert number_of(np.rot90(pixels, -quarter_turns)) == 1365


def test_in_real_time_a_file_waits_for_its_own_pace(tmp_path: Path) -> None:
    # Given a clock that somebody else moves, and a file with a frame every 2 s
    clock = ManualClock()
    seen: list[float] = []
    path = write_video(tmp_path / "a.mp4", frames=150, gop=50)
    source = open_source(str(path), every_s=2.0, realtime=True, clock=clock)

    def watch() -> None:
        for frame in source.frames():
            seen.append(frame.pts_s)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        for elapsed_s, expected in ((0.0, 1), (1.9, 1), (2.1, 2), (4.1, 3)):
            # When the clock shows a time
            clock.elapsed_s = elapsed_s
            deadline_s = time.monotonic() + 10
            while len(seen) < expected and time.monotonic() < deadline_s:
                time.sleep(0.02)
            time.sleep(0.15)
            # Then all frames up to it, and no others, have come
            assert len(seen) == expected
    finally:
        source.close()
        thread.join(timeout=10)
    assert not thread.is_alive()


def test_closing_wakes_a_file_that_waits_for_its_pace(tmp_path: Path) -> None:
    # Given a file in real time that waits for its second frame
    path = write_video(tmp_path / "a.mp4", frames=500, gop=250)
    source = open_source(str(path), every_s=10.0, realtime=True)
    frames = source.frames()
    next(frames)
    timer = threading.Timer(0.1, source.close)
    started_s = time.monotonic()
    timer.start()
    # When it is closed from another thread
    rest = list(frames)
    # Then it ends at once
    assert rest == []
    assert time.monotonic() - started_s < 1.0
