"""The shipped configurations load, and every key is explained by the sentence that its own docstring holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from streamwatch.checks import check_networks
from streamwatch.config import (
    CameraChangeConfig,
    CameraConfig,
    ChangeConfig,
    Config,
    EventsConfig,
    MetricsConfig,
    Section,
    load_config,
)
from streamwatch.embedding.networks import network

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "configs/site.yaml"
SITE_LINES = SITE.read_text(encoding="utf-8").splitlines()
KEY_LINE = re.compile(r"(?P<indent>\s*)(?:- )?(?:#(?=[a-z]))?(?P<key>[a-z_]+):( |$)")


def sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from sections_in(inner)


def all_keys(section: type[Section] = Config, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every key of the models as (path, sentence): ("cameras", "change", "threshold") and so on."""
    for name, field in section.model_fields.items():
        yield (*path, name), " ".join((field.description or "").split())
        for inner in sections_in(field.annotation):
            yield from all_keys(inner, (*path, name))


def documented_keys(lines: list[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every key of a YAML file as (path, the comment right above it), switched-off keys included."""
    above: list[str] = []
    open_keys: list[tuple[int, str]] = []
    for line in lines:
        match = KEY_LINE.match(line)
        if match is None:
            comment = line.strip()
            above = [*above, comment.removeprefix("#").strip()] if comment.startswith("# ") else []
            continue
        indent = len(match["indent"]) + (2 if line.lstrip().startswith("- ") else 0)
        open_keys = [(depth, key) for depth, key in open_keys if depth < indent]
        open_keys.append((indent, match["key"]))
        yield tuple(key for _, key in open_keys), " ".join(above)
        above = []


KEYS = dict(all_keys())
DOCUMENTED: dict[tuple[str, ...], list[str]] = {}
for _path, _comment in documented_keys(SITE_LINES):
    DOCUMENTED.setdefault(_path, []).append(_comment)


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_every_key_is_in_site_yaml_under_its_own_sentence(path: tuple[str, ...]) -> None:
    sentence = KEYS[path]
    assert sentence.endswith("."), f"{path} has no docstring that is a sentence"
    assert sentence.count(". ") == 0, f"the docstring of {path} is more than one sentence"
    assert sentence in DOCUMENTED.get(path, [])


def test_site_yaml_holds_no_key_that_there_is_not() -> None:
    assert set(DOCUMENTED) == set(KEYS)


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_every_key_is_in_the_documentation(path: tuple[str, ...]) -> None:
    # Given the documentation's table of the key's section
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    titles = {(): "Top level", ("cameras",): "`cameras`, each", ("cameras", "change"): "`cameras[].change`"}
    title = titles.get(path[:-1], f"`{path[0]}`")
    table = text.split(f"## {title}\n")[1].split("\n## ")[0]
    # Then one row has the key and its sentence
    assert re.search(rf"^\| `{path[-1]}` \| .+ \| {re.escape(KEYS[path])} \|$", table, flags=re.MULTILINE)


def test_site_yaml_loads_as_it_is_shipped() -> None:
    config = load_config(SITE, environ={})
    check_networks(config)
    assert config.network == "vgg16"
    kinds = [camera.url.partition("://")[0] for camera in config.cameras]
    assert kinds == ["rtsp", "rtsp", "0", "/srv/trailer/pictures", "/srv/recordings/monday.mp4"]


def test_site_yaml_shows_the_defaults() -> None:
    # Given the values that site.yaml writes out
    config = load_config(SITE, environ={})
    # Then its sections are those of a file without them; only the first camera differs, as an example
    assert (config.change, config.events, config.metrics) == (ChangeConfig(), EventsConfig(), MetricsConfig())
    assert (config.device, config.fit) == ("auto", "squash")
    yard = config.cameras[0]
    bare = CameraConfig(name=yard.name, url=yard.url, username=yard.username)
    same = {"zones": yard.zones, "masks": yard.masks, "change": yard.change}
    assert yard == bare.model_copy(update=same)
    assert yard.change != CameraChangeConfig()


def test_every_switched_off_key_of_site_yaml_can_be_switched_on(tmp_path: Path) -> None:
    # Given site.yaml with every #key: switched on, and a password file where it can be read
    password = tmp_path / "yard.password"
    password.write_text("secret\n")
    text = re.sub(r"(?m)^(\s*)#(?=[a-z_]+:)", r"\1", SITE.read_text(encoding="utf-8"))
    text = text.replace("/etc/streamwatch/yard.password", str(password))
    site = tmp_path / "site.yaml"
    site.write_text(text)
    # When it is loaded
    config = load_config(site, environ={"GATE_PASSWORD": "other"})
    check_networks(config)
    # Then the keys have values
    assert [config.weights, config.layer] == ["imagenet1k_v1", "conv4_3"]
    # and the thresholds that are shown would not flood anybody with events
    shipped = network(config.network).layer(config.layer).threshold
    assert shipped is not None
    for threshold in (config.change.threshold, config.cameras[0].change.threshold):
        assert threshold is not None
        assert 0.9 * shipped <= threshold <= 2 * shipped
    passwords = [camera.password.get_secret_value() for camera in config.cameras if camera.password is not None]
    assert passwords == ["secret", "other"]


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda file: file.name)
def test_no_shipped_configuration_sets_a_threshold(file: Path) -> None:
    # Given a configuration as somebody copies it; then the network's own threshold applies, which was measured
    config = load_config(file, environ={})
    assert config.change.threshold is None
    assert {camera.change.threshold for camera in config.cameras} == {None}


def test_demo_yaml_loads_and_needs_no_download() -> None:
    config = load_config(ROOT / "configs/demo.yaml", environ={})
    check_networks(config)
    assert config.network == "lite0"
    assert (config.cameras[0].every, Path(config.cameras[0].url).name) == (1.0, "yard.mp4")
    assert Path(config.cameras[0].url).resolve() == ROOT / "demo-out/yard.mp4"
