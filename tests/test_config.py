"""Configuration files: what they may hold, and what is said of each mistake."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from streamwatch.checks import check_networks
from streamwatch.config import Config, ListenAddress, Persistence, load_config
from streamwatch.durations import format_duration, parse_duration
from streamwatch.errors import ConfigError, UnknownLayer, UnknownNetwork, WeightsMissing

CAMERA = "cameras:\n  - name: yard\n    url: rtsp://192.0.2.1/a\n"
SECRET = "c4nary-S3cret"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str | bytes) -> Path:
        path = tmp_path / "site.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.fixture
def load(write: Write) -> Callable[..., Config]:
    return lambda text, **environ: load_config(write(text), environ=environ)


@pytest.fixture
def refusal(load: Callable[..., Config]) -> Callable[..., str]:
    """The message of a file that must be refused, without its folder."""

    def refusal(text: str | bytes, **environ: str) -> str:
        with pytest.raises(ConfigError) as caught:
            load(text, **environ)
        assert caught.value.__cause__ is None
        assert SECRET not in str(caught.value)
        return "\n".join(line[line.index("site.yaml") :] for line in str(caught.value).splitlines())

    return refusal


Load = Callable[..., Config]
Refusal = Callable[..., str]


def test_a_name_and_a_url_are_enough(load: Load, tmp_path: Path) -> None:
    # When the smallest file is loaded
    config = load(CAMERA)
    # Then the defaults are those of the documentation
    camera = config.cameras[0]
    assert (camera.name, camera.url, camera.every, camera.decode) == ("yard", "rtsp://192.0.2.1/a", 2.0, "auto")
    assert (camera.open_timeout, camera.read_timeout, camera.offline_after) == (5.0, 10.0, 30.0)
    assert config.data_dir == tmp_path / "streamwatch-data"
    assert (config.network, config.weights, config.layer, config.device, config.fit) == (
        "auto", None, None, "auto", "squash",
    )  # fmt: skip
    assert config.change.confirm == Persistence(min_samples=6)
    assert (config.change.regions, config.change.unit_length, config.change.threshold) == ("layer", True, None)
    assert config.metrics.listen == ListenAddress(host="127.0.0.1", port=9108)
    assert config.jsonl_path == tmp_path / "streamwatch-data" / "events.jsonl"


def test_a_loaded_configuration_does_not_change(load: Load) -> None:
    config = load(CAMERA)
    with pytest.raises(Exception, match="frozen"):
        config.network = "vgg16"


def test_sections_whose_keys_are_all_commented_out_are_defaults(load: Load) -> None:
    # Given YAML's null for each section
    text = "change:\nevents:\nmetrics:\n" + CAMERA + "    change:\n"
    # Then it is the file without them
    assert load(text) == load(CAMERA)


def test_the_papers_way_changes_defaults_but_not_what_is_written(load: Load) -> None:
    config = load("change: {method: paper, confirm: 4}\n" + CAMERA)
    change = config.change
    assert (change.regions, change.unit_length, change.remember) == ("frame", False, "recent")
    assert change.confirm == Persistence(min_samples=4)
    assert config.layer == "fc7"
    assert load("layer: pool5\nchange: {method: paper}\n" + CAMERA).layer == "pool5"
    assert load("change: {method: paper}\n" + CAMERA).change.confirm == Persistence(min_samples=1)


def test_a_confirm_in_seconds_never_means_fewer_than_three_samples(load: Load) -> None:
    config = load("change: {confirm: 30s}\n" + CAMERA)
    assert config.change.confirm == Persistence(min_samples=3, min_s=30.0)


def test_a_camera_overrides_the_change_section(load: Load) -> None:
    # Given a site's change section and a camera with some values of its own
    config = load("change: {threshold: 0.7, cooldown: 1m}\n" + CAMERA + "    change: {threshold: 0.4, confirm: 3}\n")
    # When they are put together
    own = config.cameras[0].change_settings(config.change)
    # Then the camera's win, and the site's fill up
    assert (own.threshold, own.confirm, own.cooldown) == (0.4, Persistence(min_samples=3), 60.0)
    assert config.change.threshold == 0.7


def test_paths_start_from_the_files_own_folder(load: Load, tmp_path: Path) -> None:
    text = "data_dir: data\nweights: nets/vgg.pth\n"
    config = load(text + "cameras: [{name: a, url: clips/a.mp4}, {name: b, url: /dev/video0}]")
    assert config.data_dir == tmp_path / "data"
    assert config.weights == str(tmp_path / "nets/vgg.pth")
    assert [camera.url for camera in config.cameras] == [str(tmp_path / "clips/a.mp4"), "/dev/video0"]


def test_paths_are_shown_without_detours_and_links_in_them_are_kept(load: Load, tmp_path: Path) -> None:
    # Given a link, and paths with detours
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    config = load(
        "data_dir: sub/../link/./data\ncameras: [{name: a, url: ../c.mp4}, {name: b, url: 'file:///c/../d/e.mp4?x'}]"
    )
    # Then the detours are gone and the link is not
    assert config.data_dir == tmp_path / "link" / "data"
    assert [camera.url for camera in config.cameras] == [str(tmp_path.parent / "c.mp4"), "file:///d/e.mp4?x"]


def test_a_known_weights_name_and_a_hash_stay_as_they_are(load: Load, tmp_path: Path) -> None:
    assert load("weights: imagenet1k_v1\n" + CAMERA).weights == "imagenet1k_v1"
    digits = "ab" * 32
    assert load(f"weights: own.pth#sha256={digits}\n" + CAMERA).weights == f"{tmp_path}/own.pth#sha256={digits}"


def test_a_usb_index_may_be_a_number(load: Load) -> None:
    assert load("cameras: [{name: usb, url: 0}]").cameras[0].url == "0"


def test_metrics_may_be_switched_off_and_bound_to_any_loopback_address(load: Load) -> None:
    assert load("metrics: {listen: null}\n" + CAMERA).metrics.listen is None
    assert load("metrics: {listen: '[::1]:0'}\n" + CAMERA).metrics.listen == ListenAddress(host="::1", port=0)
    assert str(load("metrics: {listen: 'localhost:80'}\n" + CAMERA).metrics.listen) == "localhost:80"


# Secrets


def test_a_password_comes_from_a_file_without_its_newline(load: Load, tmp_path: Path) -> None:
    # Given a password file, relative to the configuration
    (tmp_path / "pw").write_text(f" {SECRET} \n")
    # When it is named
    camera = load(CAMERA + "    username: cam\n    password_file: pw\n").cameras[0]
    # Then only the newline is gone
    assert camera.password is not None
    assert camera.password.get_secret_value() == f" {SECRET} "


def test_a_missing_password_file_is_named(refusal: Refusal, tmp_path: Path) -> None:
    message = refusal(CAMERA + "    username: cam\n    password_file: pw\n")
    assert message.startswith("site.yaml:5: cameras[0].password_file: cannot read the password file ")
    assert str(tmp_path / "pw") in message
    assert "No such file" in message


@pytest.mark.parametrize(("held", "what"), [("", "nothing"), ("a\nb\n", "more than a line")])
def test_a_password_file_holds_one_line(refusal: Refusal, tmp_path: Path, held: str, what: str) -> None:
    (tmp_path / "pw").write_text(held)
    assert f"holds {what}" in refusal(CAMERA + "    username: cam\n    password_file: pw\n")


def test_password_and_password_file_do_not_go_together(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("x\n")
    message = refusal(CAMERA + f"    username: cam\n    password: {SECRET}\n    password_file: pw\n")
    assert message == "site.yaml:5: cameras[0].password: is given together with password_file: keep one of them"


def test_variables_are_filled_in_values_only(load: Load) -> None:
    # Given variables with and without defaults, and an escaped one
    text = CAMERA + "    username: ${WHO:-guest}\n    password: a${PW}b$${PW}\n"
    camera = load(text, PW=SECRET).cameras[0]
    # Then text is replaced after YAML was read: what a variable holds cannot become a key
    assert camera.username == "guest"
    assert camera.password is not None
    assert camera.password.get_secret_value() == f"a{SECRET}b${{PW}}"
    assert load("network: ${N}\n" + CAMERA, N="x\nfit: crop").fit == "squash"


def test_an_empty_variable_takes_its_default_as_in_a_shell(load: Load) -> None:
    assert load("network: ${NET:-lite0}\n" + CAMERA, NET="").network == "lite0"


def test_numbers_may_come_from_variables(load: Load) -> None:
    config = load("change: {threshold: '${T}', recent: '${N}', confirm: '${N}'}\n" + CAMERA, T="0.25", N="8")
    assert (config.change.threshold, config.change.recent) == (0.25, 8)
    assert config.change.confirm == Persistence(min_samples=8)


def test_a_missing_variable_names_the_key_and_the_variable(refusal: Refusal) -> None:
    message = refusal(CAMERA + "    username: cam\n    password: ${GATE_PW}\n")
    assert message.startswith("site.yaml:5: cameras[0].password: the environment variable GATE_PW is not set")


def test_an_unfinished_variable_is_refused(refusal: Refusal) -> None:
    assert "write $${" in refusal("network: ${oops\n" + CAMERA)


def test_a_refused_value_from_a_variable_is_shown_as_it_stands_in_the_file(refusal: Refusal) -> None:
    assert "got '${NAME}'" in refusal("cameras: [{name: '${NAME}', url: 0}]", NAME=f"{SECRET} !")


def test_a_password_that_nobody_encoded_leaves_the_url_whole(load: Load) -> None:
    # Given a password with the signs that end a URL's host
    config = load("cameras: [{name: a, url: 'rtsp://cam:p@w:d/x#y@192.0.2.1:554/live'}]")
    # When / Then
    camera = config.cameras[0]
    assert (camera.url, camera.username) == ("rtsp://192.0.2.1:554/live", "cam")
    assert camera.password is not None
    assert camera.password.get_secret_value() == "p@w:d/x#y"


@pytest.mark.parametrize("query", ["user=admin&pw=S", "p=S", "pin=S", "jwt=S", "code=S", "auth;x=S", "S"])
def test_no_value_of_a_query_is_shown(load: Load, query: str) -> None:
    config = load(f"cameras: [{{name: a, url: 'http://192.0.2.1/s?{query.replace('S', SECRET)}'}}]")
    assert SECRET in config.cameras[0].url
    assert SECRET not in repr(config) + config.cameras[0].safe_url


def test_a_password_in_the_path_is_not_shown(load: Load) -> None:
    path = f"user=admin_password={SECRET}_channel=1.sdp"
    config = load(f"cameras: [{{name: a, url: 'rtsp://192.0.2.1/{path}'}}]")
    assert config.cameras[0].safe_url.startswith("rtsp://192.0.2.1/user=")
    assert SECRET not in repr(config)


def test_user_and_password_leave_the_url(load: Load) -> None:
    # Given a URL with a password in it, with signs that need escapes, and a token
    config = load(f"cameras: [{{name: a, url: 'rtsp://cam:{SECRET}%40x@192.0.2.1:554/s?token={SECRET}'}}]")
    camera = config.cameras[0]
    # Then the parts stand apart, and nothing that people print shows the secret
    assert camera.url == f"rtsp://192.0.2.1:554/s?token={SECRET}"
    assert camera.username == "cam"
    assert camera.password is not None
    assert camera.password.get_secret_value() == f"{SECRET}@x"
    assert camera.safe_url == "rtsp://192.0.2.1:554/s?token=***"
    assert SECRET not in repr(config) + str(config)


@pytest.mark.parametrize(
    "text",
    [
        f"cameras: [{{name: a, url: 0, passwort: {SECRET}}}]",
        f"cameras: [{{name: a, url: 'rstp://u:{SECRET}@h/x'}}]",
        f"cameras: [{{name: a, url: 'rtsp://u:{SECRET}@h:port/x'}}]",
        f"cameras: ['rtsp://u:{SECRET}@h/x']",
        f"cameras: [{{name: a, url: 'rtsp://h/x', password: {SECRET}}}]",
        f"cameras: [{{name: a, url: 'rtsp://u:{SECRET}@h/x', username: u, password: x}}]",
        f"cameras: [{{name: a, url: 'rtsp://h/x', username: u, password: *{SECRET}}}]",
        f"cameras: [{{name: a, url: 'rtsp://h/x', username: u, password: !{SECRET} x}}]",
        f"cameras: [{{name: a, url: 'rtsp://h/x', username: u, password: !{SECRET}!x x}}]",
        f"cameras: [{{name: a, url: 'rtsp://h/x', username: u, password: [{SECRET}]}}]",
        f"cameras: [{{name: a, url: 'rtsp://h/x', username: u, password: '{SECRET}]}}]",
        f"cameras:\n  - name: a\n    password: @{SECRET}\n",
        f"cameras:\n  - name: a\n    password: %{SECRET}: x: y\n",
        f'cameras:\n  - name: a\n    password: "{SECRET}\\q"\n',
    ],
)
def test_no_refusal_quotes_a_secret(refusal: Refusal, text: str) -> None:
    assert refusal(text)  # the fixture looks for the secret


@pytest.mark.parametrize(
    "url",
    [
        f"rtsp//u:{SECRET}@h/x",
        f"RTSP:/u:{SECRET}@h/x",
        f"rtsp:u:{SECRET}@h/x",
        f"http;//u:{SECRET}@h/x",
        f"u:{SECRET}@h/x",
        f"u:a/{SECRET}@h/x",
    ],
)
def test_a_url_that_lacks_its_signs_is_no_path_and_shows_no_secret(refusal: Refusal, url: str) -> None:
    message = refusal(f"cameras: [{{name: a, url: '{url}'}}]")
    assert "cameras[0].url: looks like a URL without ://; expected one such as rtsp://192.0.2.10:554/stream1" in message


def test_a_path_that_looks_like_a_url_is_written_with_its_folder(load: Load, tmp_path: Path) -> None:
    config = load("cameras: [{name: a, url: './u:p@h.mp4'}, {name: b, url: rtsp/x.mp4}, {name: c, url: httpd.mp4}]")
    assert [camera.url for camera in config.cameras] == [
        f"{tmp_path}/{name}" for name in ("u:p@h.mp4", "rtsp/x.mp4", "httpd.mp4")
    ]


@pytest.mark.parametrize("password", ["&x", "''", "", "~", "${NONE:-}"])
def test_an_empty_password_beside_a_username_is_refused(refusal: Refusal, password: str) -> None:
    message = refusal(CAMERA + f"    username: cam\n    password: {password}\n")
    assert message == "site.yaml:5: cameras[0].password: is empty; put it in quotes"


def test_an_empty_password_in_a_url_is_meant(load: Load) -> None:
    (camera,) = load("cameras: [{name: a, url: 'rtsp://cam:@192.0.2.1/x'}]").cameras
    assert camera.password is not None
    assert camera.password.get_secret_value() == ""


def test_a_password_of_digits_asks_for_quotes_and_is_not_shown(refusal: Refusal) -> None:
    message = refusal(CAMERA + "    username: cam\n    password: 0042\n")
    assert message == "site.yaml:5: cameras[0].password: got a number, expected text: put it in quotes"


# Refusals


def test_all_problems_are_listed_with_their_lines(refusal: Refusal) -> None:
    # Given a file with a mistake in nearly every line
    text = (
        "change:\n  thresold: 2\n"
        "cameras:\n"
        "  - name: yard\n    url: rtsp://192.0.2.1/a\n    every: 2\n"
        "  - name: gate\n    url: 0\n    zones:\n      - [[0, 0], [1, 0], [1.2, 0.5]]\n"
    )
    # Then one run names them all
    assert refusal(text).splitlines() == [
        "site.yaml:2: change.thresold: unknown key; did you mean threshold?",
        "site.yaml:6: cameras[0].every: got 2, expected a duration with its unit: "
        "write 2s for seconds (or ms, m, h, d)",
        "site.yaml:10: cameras[1].zones[0][2]: got [1.2, 0.5], expected x and y from 0 to 1: "
        "fractions of the picture's width and height, not pixels",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("newtork: vgg16\n" + CAMERA, "newtork: unknown key; did you mean network?"),
        ("threshold: 3\n" + CAMERA, "threshold: unknown key; it belongs into change"),
        ("zzz: 3\n" + CAMERA, "zzz: unknown key; known here: data_dir, network"),
        ("network: vgg16\n", "cameras: is missing. The cameras, files and folders to watch."),
        ("cameras: []\n", "cameras: got an empty list, expected at least one"),
        ("cameras: yard\n", "cameras: got 'yard', expected a list"),
        ("cameras: [yard]\n", "cameras[0]: got 'yard', expected a mapping"),
        ("cameras: [{name: a}]\n", "cameras[0].url: is missing. Where its pictures come from"),
        ("cameras: [{name: a b, url: 0}]\n", "cameras[0].name: got 'a b', expected 1 to 64 of the signs"),
        ("cameras: [{name: 12, url: 0}]\n", "cameras[0].name: got 12, expected text: put it in quotes"),
        ("cameras: [{name: a, url: -1}]\n", "cameras[0].url: got -1, expected a USB camera's index from 0"),
        ("cameras: [{name: a, url: true}]\n", "cameras[0].url: got true, expected a URL"),
        ("cameras: [{name: a, url: rtsp:///x}]\n", "expected a URL with a host"),
        ("cameras: [{name: a, url: ftp://h/x}]\n", "expected a URL that starts with one of file, http, https"),
        (CAMERA + "    every: 1ms\n", "every: got '1ms', expected a duration from 10ms to 24h"),
        (CAMERA + "    every: soon\n", "every: got 'soon', expected a duration such as 500ms"),
        (CAMERA + "    decode: keyframe\n", "expected auto, keyframes or all; did you mean keyframes?"),
        (CAMERA + "    realtime: true\n", "realtime: is for files only"),
        (CAMERA + "    hwaccel: VAAPI!\n", "expected the name of an FFmpeg hardware decoder"),
        ("cameras: [{name: a, url: 0, username: u}]\n", "username: is for network cameras only"),
        (CAMERA + "    zones: [[[0, 0], [1, 1]]]\n", "zones[0]: got a list, expected three or more points"),
        (CAMERA + "    zones: [[[0, 0], [0.5, 0.5], [1, 1]]]\n", "zones[0]: the polygon has no area"),
        (CAMERA + "    masks: [[[0, 0], [0.5], [1, 1]]]\n", "masks[0][1]: got [0.5], expected a point [x, y]"),
        (CAMERA + "    masks: [[[0, 0], [.nan, 1], [1, 1]]]\n", "masks[0][1]: got [nan, 1], expected x and y from 0"),
        (CAMERA + "    zones: [[0, 0], [1, 0], [1, 1]]\n", "zones[0]: got [0, 0], expected three or more points"),
        ("change: {threshold: 0}\n" + CAMERA, "change.threshold: got 0, expected a number over 0"),
        ("change: {threshold: .inf}\n" + CAMERA, "change.threshold: got inf, expected a finite number"),
        ("change: {threshold: true}\n" + CAMERA, "change.threshold: got true, expected a number"),
        ("change: {confirm: 0}\n" + CAMERA, "change.confirm: got 0, expected 1 to 1000 samples"),
        ("change: {confirm: 0s}\n" + CAMERA, "change.confirm: got '0s', expected a duration over 0s"),
        ("change: {confirm: 1.5}\n" + CAMERA, "change.confirm: got 1.5, expected a whole number of samples"),
        ("change: {max_states: 100001}\n" + CAMERA, "got 100001, expected a number of at most 100000"),
        ("change: {method: papre}\n" + CAMERA, "expected regions or paper; did you mean paper?"),
        ("change: [1]\n" + CAMERA, "change: got [1], expected a mapping"),
        ("events: {jpeg_quality: 101}\n" + CAMERA, "events.jpeg_quality: got 101, expected a number of at most 100"),
        ("metrics: {listen: 0.0.0.0:9108}\n" + CAMERA, "expected a loopback address (127.0.0.1, [::1] or localhost)"),
        ("metrics: {listen: 9108}\n" + CAMERA, "metrics.listen: got 9108, expected an address and a port"),
        ("metrics: {listen: 127.0.0.1:70000}\n" + CAMERA, "expected an address and a port"),
        ("device: gpu\n" + CAMERA, "device: got 'gpu', expected auto, cpu, cuda, or one GPU such as cuda:1"),
        ("data_dir: 3\n" + CAMERA, "data_dir: got 3, expected a path"),
        ("weights: x.pth#sha256=12\n" + CAMERA, "expected a name or a path; where #sha256= follows, 64 hex digits"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_was_got_and_expected(refusal: Refusal, text: str, expected: str) -> None:
    assert expected in refusal(text)


def test_two_cameras_of_one_name_are_refused_with_both_places(refusal: Refusal) -> None:
    message = refusal(CAMERA + "  - name: YARD\n    url: 0\n")
    assert message.startswith("site.yaml:4: cameras[1].name: got 'YARD', which is the name of cameras[0] in line 2 too")


# YAML


def test_a_tab_is_called_a_tab(refusal: Refusal) -> None:
    message = refusal("cameras:\n\t- name: yard\n")
    assert message == "site.yaml:2: column 1: YAML does not allow tabs for indentation: use spaces"


def test_a_key_that_is_written_twice_is_refused_with_both_lines(refusal: Refusal) -> None:
    message = refusal("network: vgg16\n" + CAMERA + "network: lite0\n")
    assert message == "site.yaml:5: network: is written twice, first in line 1: keep one of them"


def test_words_that_old_yaml_takes_for_truth_stay_words(load: Load) -> None:
    config = load("cameras: [{name: no, url: 0}, {name: on, url: 1}, {name: '12', url: 2}]")
    assert [camera.name for camera in config.cameras] == ["no", "on", "12"]


def test_shared_settings_may_be_merged(load: Load) -> None:
    text = "cameras:\n  - &base {name: a, url: 0, every: 5s}\n  - {<<: *base, name: b, url: 1}\n"
    assert [camera.every for camera in load(text).cameras] == [5.0, 5.0]


def test_an_alias_bomb_does_not_go_off(refusal: Refusal) -> None:
    # Given nine levels of nine aliases each: 400 million values, if they were written out
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    assert "expands to more than 100,000 values" in refusal("\n".join(lines))


def test_an_alias_of_itself_is_refused(refusal: Refusal) -> None:
    assert "an alias that holds itself" in refusal("a: &a [*a]\n")


def test_deep_nesting_is_refused(refusal: Refusal) -> None:
    assert "nested far too deeply" in refusal("[" * 20_000)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "site.yaml: is empty; expected at least `cameras:`"),
        (b"# nothing but a comment\n", "site.yaml: is empty"),
        (b"- a\n- b\n", "the file: got a list, expected a mapping"),
        (b"streamwatch\n", "the file: got 'streamwatch', expected a mapping"),
        (b"a: \xff\xfe\n", "site.yaml:1: byte 0xff is not UTF-8"),
        (b"network: a\x00b\n", "site.yaml:1: character U+0000 is not allowed"),
        (b"network: vgg16\n---\nnetwork: lite0\n", "a second document starts here"),
        (b"network: !!python/object/apply:os.system [id]\n", "network: has a tag"),
        (b"? [a, b]\n: c\n", "a key is a list or mapping; expected a word"),
        (b"x" * ((1 << 20) + 1), "site.yaml: is larger than 1 MiB"),
        (b"cameras: [{name: a, url: 0}\n", "expected ',' or '}'"),
    ],
)
def test_what_is_no_configuration_at_all_is_refused(refusal: Refusal, data: bytes, expected: str) -> None:
    if b"{name: a, url: 0}" in data:
        expected = "site.yaml:2: column 1: "
    assert expected in refusal(data)


def test_a_byte_order_mark_is_no_mistake(load: Load) -> None:
    assert load(b"\xef\xbb\xbf" + CAMERA.encode()).cameras[0].name == "yard"


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file; expected a YAML configuration"):
        load_config(tmp_path / "none.yaml", environ={})
    with pytest.raises(ConfigError, match="is a folder; expected a YAML file"):
        load_config(tmp_path, environ={})


# Networks


def test_networks_layers_and_weights_are_checked_by_name(load: Load) -> None:
    check_networks(load("network: vgg16\nlayer: conv4_3\nweights: IMAGENET1K_V1\n" + CAMERA))
    check_networks(load("network: auto\n" + CAMERA))
    with pytest.raises(UnknownNetwork, match="vgg16"):
        check_networks(load("network: vgg61\n" + CAMERA))
    with pytest.raises(UnknownLayer, match="conv4_3"):
        check_networks(load("network: vgg16\nlayer: conv4_4\n" + CAMERA))
    with pytest.raises(UnknownLayer, match=r"lite0 has .*blocks\.4\.2"):
        check_networks(load("layer: conv9\n" + CAMERA))
    with pytest.raises(WeightsMissing, match="imagenet1k_v1, imagenet1k_features"):
        check_networks(load("network: vgg16\nweights: imagnet\n" + CAMERA))


def test_the_papers_way_needs_a_threshold_of_its_own(load: Load) -> None:
    paper = "network: vgg16\nchange: {method: paper}\n" + CAMERA
    with pytest.raises(ConfigError, match=r"change\.threshold is missing: none is shipped for vgg16's fc7"):
        check_networks(load(paper))
    check_networks(load(paper + "    change: {threshold: 5000}\n"))


def test_auto_is_refused_where_no_network_that_it_could_choose_has_a_threshold(load: Load) -> None:
    # Given what `auto` can only answer with VGG16, whose layer has no threshold of its own
    for settings in ("change: {method: paper}\n", "layer: conv5_3\n", "change: {unit_length: false}\n"):
        with pytest.raises(ConfigError, match=r"change\.threshold is missing: none is shipped for vgg16's"):
            check_networks(load(settings + CAMERA))
        # Then one for each camera is enough
        check_networks(load(settings + CAMERA + "    change: {threshold: 5000}\n"))


def test_auto_with_weights_is_checked_for_the_networks_that_they_may_be_of(load: Load) -> None:
    check_networks(load("weights: own.pth\n" + CAMERA))
    check_networks(load("weights: own.pth\nlayer: blocks.4.2\n" + CAMERA))
    with pytest.raises(UnknownLayer, match=r"`auto` could choose has a layer 'blocks\.4\.2': vgg16 has"):
        check_networks(load("weights: imagenet1k_features\nlayer: blocks.4.2\n" + CAMERA))
    with pytest.raises(UnknownLayer, match=r"vgg16 has .*; lite0 has "):  # VGG19 is not one that it could choose
        check_networks(load("layer: conv4_4\n" + CAMERA))
    with pytest.raises(WeightsMissing, match="imagenet1k_v1"):
        check_networks(load("weights: imagnet\n" + CAMERA))


# Durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("2s", 2), ("1.5m", 90), ("1h30m", 5400), ("1h 30m", 5400), ("7d", 604800), ("0", 0), ("0s", 0)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "2", "s", "-2s", "2 seconds", "1e3s", "2S", "nan s", "2s x"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


def test_loading_is_light(write: Write) -> None:
    # Given a process of its own that only loads a configuration
    code = (
        "import sys; from pathlib import Path; from streamwatch.config import load_config;"
        f"load_config(Path({str(write(CAMERA))!r}), environ={{}});"
        "print([name for name in ('numpy', 'torch', 'av', 'cv2', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Then nothing heavy was imported
    assert done.stdout.strip() == "[]"
