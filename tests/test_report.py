"""The scan's HTML report: self-contained, safe against names, complete, small, and written in one step."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import os
import re
import resource
from collections import Counter
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from streamwatch.errors import OutputError
from streamwatch.offline import timeline
from streamwatch.offline.report import write_report
from streamwatch.offline.result import ScanEvent, ScanResult, TimelinePoint
from streamwatch.records import ChangedRegion, Grid

DOCS = Path(__file__).parents[1] / "docs" / "report.md"
CSS = Path(timeline.__file__).parent / "templates" / "scan_report.css"
VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """The page as tags with attributes, the text, and the names of elements that were not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.crossed: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        self.crossed += self._open

    @classmethod
    def of(cls, path: Path) -> Page:
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.crossed.append(tag)

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """The attributes of every such element; a class matches when it is one of the element's classes."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            found
            for name, found in self.tags
            if name == tag and all(value in found.get(key, "").split() for key, value in wanted.items())
        ]


def picture(path: Path, *, size: tuple[int, int] = (64, 36), colour: tuple[int, int, int] = (90, 110, 130)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, quality=95)
    return path


def event(folder: Path, *, time_s: float = 9.0, novelty: float = 0.9, first: bool = False) -> ScanEvent:
    grid = Grid(14, 14)
    regions = () if first else (ChangedRegion(box=grid.box(12 * 14 + 1), distance_sq=novelty),)
    return ScanEvent(
        time_s=time_s,
        novelty=novelty,
        threshold=0.5,
        regions=regions,
        before=None if first else picture(folder / "before.jpg"),
        after=picture(folder / "after.jpg", colour=(200, 180, 160)),
    )


def result(
    *,
    video: str = "clips/yard.mp4",
    duration_s: float = 40.0,
    events: tuple[ScanEvent, ...] = (),
    points: tuple[TimelinePoint, ...] | None = None,
    warnings: tuple[str, ...] = (),
) -> ScanResult:
    if points is None:
        points = tuple(
            TimelinePoint(pts_s=float(second), novelty=math.inf if second < 5 else 0.1 + 0.01 * (second % 7))
            for second in range(41)
        )
    return ScanResult(
        video=video,
        duration_s=duration_s,
        samples=len(points),
        every_s=1.0,
        network="efficientnet_lite0",
        layer="blocks.4.2",
        weights_id="sha256:3f2c9a7d51b8e640",
        threshold=0.5,
        decode="keyframes",
        timeline=points,
        events=events,
        warnings=warnings,
    )


def test_a_report_has_a_card_for_each_event_and_its_marker_leads_there(tmp_path: Path) -> None:
    # Given two videos with two events and one
    first = result(events=(event(tmp_path), event(tmp_path, time_s=20.0)))
    second = result(video="clips/gate.mp4", events=(event(tmp_path, time_s=30.0),))
    # When the report is written
    write_report([first, second], tmp_path / "report.html")
    page = Page.of(tmp_path / "report.html")
    # Then there are three cards, each with its marker on the timeline
    cards = [card["id"] for card in page.all("article", class_="card")]
    assert cards == ["event-1-1", "event-1-2", "event-2-1"]
    links = [link["href"] for link in page.all("a")]
    assert [link for link in links if link.startswith("#event")] == [f"#{card}" for card in cards]
    circles = page.all("circle", class_="reach")
    assert [circle["cx"] for circle in circles] == ["22.5%", "50%", "75%"]


def test_the_page_is_well_formed_and_every_reference_in_it_leads_somewhere(tmp_path: Path) -> None:
    # Given a report with all its parts
    results = [
        result(events=(event(tmp_path, first=True, novelty=math.inf), event(tmp_path)), warnings=("cut off", "slow")),
        result(video="empty.mp4", duration_s=0.0, points=()),
    ]
    # When it is written
    write_report(results, tmp_path / "report.html", truth={"clips/yard.mp4": [(0, 9, "empty"), (9, 40, "a truck")]})
    page = Page.of(tmp_path / "report.html")
    # Then elements nest, ids are unique, and links, labels and names point at ids that exist
    assert page.crossed == []
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert set(ids.values()) == {1}
    for _, attributes in page.tags:
        for name in ("for", "aria-labelledby"):
            assert attributes.get(name, next(iter(ids))) in ids
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids


def test_nothing_is_loaded_and_nothing_is_run(tmp_path: Path) -> None:
    # Given a report with pictures
    write_report([result(events=(event(tmp_path),))], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    # Then no address of any kind stands in it, and no script, frame, inline style or handler
    assert not re.search(
        r"https?:|//[a-z]|@import|url\(|javascript:", re.sub(r'"data:[^"]*"', '""', html), re.IGNORECASE
    )
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "form", "base"}
        assert not [name for name in attributes if name.startswith("on") or name in {"style", "srcset"}]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))


def test_the_content_security_policy_allows_the_one_style_sheet_and_embedded_pictures_only(tmp_path: Path) -> None:
    # Given a report
    write_report([result()], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    # When its style sheet is hashed as a browser does
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    # Then the policy names that hash and nothing wider
    (policy,) = (meta["content"] for meta in Page(html).all("meta") if "http-equiv" in meta)
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_pictures_are_jpegs_scaled_down_and_the_drawn_one_differs_in_the_region_only(tmp_path: Path) -> None:
    # Given an event with full-size pictures
    shot = event(tmp_path)
    picture(tmp_path / "before.jpg", size=(1920, 1080))
    picture(tmp_path / "after.jpg", size=(1920, 1080), colour=(200, 180, 160))
    # When the report is written
    write_report([result(events=(shot,))], tmp_path / "report.html")
    images = Page.of(tmp_path / "report.html").all("img")
    # Then before, drawn and plain are JPEGs 960 pixels wide, with alternative texts
    decoded = {}
    for image in images:
        head, data = image["src"].split(",")
        assert head == "data:image/jpeg;base64"
        opened = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        assert opened.format == "JPEG"
        assert opened.size == (960, 540) == (int(image["width"]), int(image["height"]))
        decoded[image["alt"].split(":")[0], image["class"]] = np.asarray(opened).astype(int)
    assert list(decoded) == [("Before", "plain-only"), ("After", "drawn"), ("After", "plain")]
    assert "left bottom, 1 region" in images[1]["alt"]
    # … and the outline is drawn in row 12, column 1 of 14, give or take the JPEG's blocks
    difference = np.abs(decoded["After", "drawn"] - decoded["After", "plain"]).max(axis=2)
    rows, columns = np.nonzero(difference > 40)
    assert (rows.min(), columns.min()) >= (12 * 540 // 14 - 8, 960 // 14 - 8)
    assert (rows.max(), columns.max()) <= (13 * 540 // 14 + 8, 2 * 960 // 14 + 8)


def test_the_toggle_comes_before_the_pictures_that_it_switches(tmp_path: Path) -> None:
    # Given a report with an event that has regions, and a first state that has none
    shots = (event(tmp_path, first=True, novelty=math.inf), event(tmp_path))
    write_report([result(events=shots)], tmp_path / "report.html")
    page = Page.of(tmp_path / "report.html")
    # Then one checkbox is there, on, and a later sibling holds the pictures
    (box,) = page.all("input", type="checkbox")
    assert box["id"] == "drawn-1-2"
    assert "checked" in box
    order = [attributes.get("class") for _, attributes in page.tags]
    assert order.index("toggle") < order.index("drawn") < order.index("plain")


def test_a_first_state_says_that_nothing_was_before_it(tmp_path: Path) -> None:
    # Given a first state that was announced
    write_report([result(events=(event(tmp_path, first=True, novelty=math.inf),))], tmp_path / "report.html")
    page = Page.of(tmp_path / "report.html")
    # Then the card says so, shows one picture, and no infinite number stands on the page
    assert "First state" in page.text
    assert len(page.all("img")) == 1
    assert not re.search(r"\b(inf|nan)\b", page.text, re.IGNORECASE)


def test_a_picture_that_cannot_be_read_is_named_and_the_rest_is_written(tmp_path: Path) -> None:
    # Given an event whose before picture is gone and whose after picture is cut off
    shot = event(tmp_path)
    (tmp_path / "before.jpg").unlink()
    whole = picture(tmp_path / "after.jpg", size=(640, 360)).read_bytes()
    (tmp_path / "after.jpg").write_bytes(whole[: len(whole) // 2])
    # When the report is written
    write_report([result(events=(shot,))], tmp_path / "report.html")
    # Then the card is there and names both
    page = Page.of(tmp_path / "report.html")
    assert len(page.all("article", class_="card")) == 1
    assert "before.jpg could not be read" in page.text
    assert "after.jpg could not be read" in page.text


def test_names_cannot_add_markup_to_the_page(tmp_path: Path) -> None:
    # Given hostile texts wherever a text can come from outside
    evil = """"><script>alert(1)</script>'<img src=x onerror=alert(2)>&{{ 7*7 }}"""
    shot = event(tmp_path / evil.replace("/", "_"))
    hostile = result(video=evil, events=(shot,), warnings=(evil,))
    truth = {evil: [(0.0, 30.0, evil)]}
    # When the report is written with them and without them
    write_report([hostile], tmp_path / "hostile.html", title=evil, truth=truth)
    write_report(
        [result(video="a", events=(shot,), warnings=("w",))],
        tmp_path / "tame.html",
        title="t",
        truth={"a": [(0, 30, "b")]},
    )
    # Then both pages have the same elements but for the two parts of the name, and the texts are shown as they are
    names = [Counter(tag for tag, _ in Page.of(tmp_path / name).tags) for name in ("hostile.html", "tame.html")]
    extra = names[0] - names[1]
    assert set(extra) <= {"span"}
    assert names[0]["img"] == 3
    assert names[0]["script"] == 0
    assert Page.of(tmp_path / "hostile.html").text.count(evil) >= 3


def test_a_file_name_with_broken_bytes_is_shown_with_escapes(tmp_path: Path) -> None:
    # Given a name that is no UTF-8 and one with a direction mark
    write_report([result(video="caf\udce9.mp4"), result(video="a\u202egpj.mp4")], tmp_path / "report.html")
    # Then the page is UTF-8 and shows both
    text = Page.of(tmp_path / "report.html").text
    assert r"caf\udce9.mp4" in text
    assert r"a\u202egpj.mp4" in text


def test_a_video_without_events_and_one_without_samples_say_so(tmp_path: Path) -> None:
    # Given a quiet video, and an empty one
    write_report([result(), result(video="empty.mp4", duration_s=0.0, points=())], tmp_path / "report.html")
    page = Page.of(tmp_path / "report.html")
    # Then both say that there is no event, and only the first has a timeline
    assert page.text.count("No events") == 2
    assert len(page.all("figure", class_="timeline")) == 1


def test_several_videos_get_a_summary_and_one_does_not(tmp_path: Path) -> None:
    # Given a report of one video and a report of two
    write_report([result()], tmp_path / "one.html")
    write_report([result(), result(video="b.mp4", warnings=("cut off",))], tmp_path / "two.html")
    one, two = Page.of(tmp_path / "one.html"), Page.of(tmp_path / "two.html")
    # Then only the second begins with a table: a heading and a line for each
    assert not one.all("table")
    assert len(two.all("tr")) == 3
    assert [link["href"] for link in two.all("a")] == ["#video-1", "#video-2"]
    assert "1 warning" in two.text


def test_warnings_are_in_a_box_with_an_icon_and_words(tmp_path: Path) -> None:
    # Given a result with a warning
    write_report([result(warnings=("The file is cut off at 0:00:31.2.",))], tmp_path / "report.html")
    page = Page.of(tmp_path / "report.html")
    # Then the box has both
    assert len(page.all("div", class_="warnings")) == 1
    assert len(page.all("svg", class_="icon")) == 1
    assert "Warning" in page.text
    assert "The file is cut off at 0:00:31.2." in page.text


def test_the_known_truth_is_shaded_within_the_video(tmp_path: Path) -> None:
    # Given two states, the second beyond the video's end, and one outside of it
    truth = {"clips/yard.mp4": [(0.0, 10.0, "empty yard"), (20.0, 99.0, "a truck"), (50.0, 60.0, "never")]}
    write_report([result()], tmp_path / "report.html", truth=truth)
    page = Page.of(tmp_path / "report.html")
    # Then two bands lie on the timeline, labelled
    bands = page.all("rect", class_="faint")
    assert [(band["x"], band["width"]) for band in bands] == [("0%", "25%"), ("50%", "50%")]
    assert len(page.all("text", class_="truth-label")) == 2
    assert "never" not in page.text


def test_the_start_that_was_not_judged_is_left_blank(tmp_path: Path) -> None:
    # Given a video whose first five of forty seconds have no finite novelty
    write_report([result()], tmp_path / "report.html")
    page = Page.of(tmp_path / "report.html")
    # Then the line begins at an eighth of the width, and the legend says from when on it is judged
    (line, _) = page.all("path", class_="novelty")
    assert line["d"].startswith("M125 ")
    assert "judged from 0:00:05.0 on" in page.text


def test_a_day_at_one_sample_a_second_stays_small_and_keeps_its_one_peak(tmp_path: Path) -> None:
    # Given 86,400 samples with a single peak of one sample
    generator = np.random.default_rng(3)
    values = 0.1 + 0.1 * generator.random(86_400)
    values[50_000] = 0.8
    points = tuple(TimelinePoint(pts_s=float(second), novelty=float(value)) for second, value in enumerate(values))
    # When the report is written
    write_report([result(duration_s=86_400.0, points=points)], tmp_path / "report.html")
    # Then it is far below 1.5 MB, and the peak is on the line, where it was
    assert (tmp_path / "report.html").stat().st_size < 150_000
    (line, _) = Page.of(tmp_path / "report.html").all("path", class_="novelty")
    spots = [tuple(map(float, spot)) for spot in re.findall(r"([\d.]+) ([\d.]+)", line["d"])]
    assert len(spots) <= 2 * timeline.COLUMNS
    top = min(spots, key=lambda spot: spot[1])
    assert top[0] == pytest.approx(50_000 / 86.4, abs=0.2)
    assert top[1] == pytest.approx(1000 * (1 - 0.8 / (0.8 * 1.15)), abs=1)


def test_a_day_in_which_every_other_sample_was_not_judged_stays_small(tmp_path: Path) -> None:
    # Given 86,400 samples, every other one not finite
    points = tuple(TimelinePoint(pts_s=float(n), novelty=0.1 if n % 2 else math.nan) for n in range(86_400))
    # When the report is written, then the gaps do not blow it up
    write_report([result(duration_s=86_400.0, points=points)], tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 150_000


def test_gaps_break_the_line_and_a_lone_sample_is_a_dot() -> None:
    # Given a sample alone between two that were not judged, and a pair after them
    values = [math.inf, 0.5, math.nan, 0.25, 0.75]
    points = [TimelinePoint(pts_s=float(n), novelty=value) for n, value in enumerate(values)]
    # When the line is drawn on a scale from 0 to 1
    path = timeline.line_path(points, scale=timeline.Scale(low=0.0, high=1.0, log=False), span_s=4.0)
    # Then there are two parts, the first without length
    assert path == "M250 500h0M750 750L1000 250"


def test_the_threshold_is_always_on_the_axis_and_one_huge_peak_makes_it_logarithmic() -> None:
    # Given a quiet video, a usual one and one with a peak twenty times the threshold
    quiet, usual, huge = (
        timeline.choose_scale(values, threshold=0.5) for values in ([0.01, math.inf], [0.1, 0.9], [0.05, 10.0])
    )
    # Then the threshold has room above and below it on each
    for scale in (quiet, usual, huge):
        assert 0.05 < scale.y(0.5) < 0.95
        labels = [float(tick.label) for tick in scale.ticks()]
        assert 2 <= len(labels) <= 8
        assert labels == sorted(labels)
        assert [tick.at for tick in scale.ticks()] == pytest.approx([scale.y(label) for label in labels])
    # … and only the last is logarithmic
    assert [scale.log for scale in (quiet, usual, huge)] == [False, False, True]
    assert [tick.label for tick in huge.ticks()] == ["0.01", "0.1", "1", "10"]


@pytest.mark.parametrize(
    ("values", "threshold"), [([], 0.5), ([0.0, 0.0], 0.0), ([math.inf], math.nan), ([5e5, 1e-9], 1e-6), ([2.0], -1.0)]
)
def test_odd_values_still_give_an_axis(values: list[float], threshold: float) -> None:
    # Given nothing finite, nothing above zero, or a span of many powers of ten
    scale = timeline.choose_scale(values, threshold=threshold)
    # Then every value lies on the axis and its labels differ
    assert all(0 <= scale.y(value) <= 1 for value in values if math.isfinite(value))
    labels = [tick.label for tick in scale.ticks()]
    assert 1 < len(set(labels)) == len(labels) <= 9


@pytest.mark.parametrize(
    ("duration_s", "labels"),
    [
        (0.75, ["0:00.0", "0:00.1", "0:00.2", "0:00.3", "0:00.4", "0:00.5", "0:00.6", "0:00.7"]),
        (39.85, ["0:00", "0:05", "0:10", "0:15", "0:20", "0:25", "0:30", "0:35"]),
        (600, ["0:00", "2:00", "4:00", "6:00", "8:00", "10:00"]),
        (7200, ["0:00", "0:15", "0:30", "0:45", "1:00", "1:15", "1:30", "1:45", "2:00"]),
        (86400, ["0:00", "3:00", "6:00", "9:00", "12:00", "15:00", "18:00", "21:00", "24:00"]),
        (0, []),
    ],
)
def test_time_ticks_stand_at_round_times(duration_s: float, labels: list[str]) -> None:
    # Given a length of video, when its ticks are chosen
    ticks = timeline.time_ticks(duration_s)
    # Then they are round, evenly apart, and lie on the axis
    assert [tick.label for tick in ticks] == labels
    assert all(0 <= tick.at <= 1 for tick in ticks)


def test_a_year_of_footage_has_few_ticks() -> None:
    assert 4 <= len(timeline.time_ticks(365 * 86400.0)) <= 9


def test_the_report_is_replaced_in_one_step_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    # Given an older report that somebody has open
    target = tmp_path / "out" / "report.html"
    target.parent.mkdir()
    target.write_text("old", encoding="utf-8")
    with target.open(encoding="utf-8") as reader:
        # When it is written anew
        write_report([result()], target)
        # Then the reader still has the old one whole, the folder has the new one alone, and others may read it
        assert reader.read() == "old"
    assert os.listdir(target.parent) == ["report.html"]
    assert target.read_text(encoding="utf-8").endswith("</html>\n")
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("name", ["no/such/folder/report.html", "folder", "file/report.html"])
def test_a_place_that_cannot_be_written_is_one_clear_error_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    # Given a folder that is not there, a folder where the file should be, and a file where the folder should be
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    # When the report is written there
    with pytest.raises(OutputError, match=re.escape(str(tmp_path / name)) + r" cannot be written: .*Name a file"):
        write_report([result()], tmp_path / name)
    # Then nothing new lies about
    assert sorted(tmp_path.rglob("*")) == before


def test_a_report_that_finds_no_room_half_way_keeps_the_old_one(tmp_path: Path) -> None:
    # Given an older report, and a system that lets no file grow past 4 kB
    target = tmp_path / "report.html"
    target.write_text("old", encoding="utf-8")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    # When the report is written
    try:
        with pytest.raises(OutputError, match="File too large"):
            write_report([result()], target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    # Then the old one is whole and alone
    assert target.read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_the_same_results_give_the_same_bytes_and_the_time_is_shown_when_given(tmp_path: Path) -> None:
    # Given one result, written three times, the last with a time
    shot = result(events=(event(tmp_path),))
    write_report([shot], tmp_path / "a.html")
    write_report([shot], tmp_path / "b.html")
    write_report([shot], tmp_path / "c.html", generated_at=datetime(2026, 11, 22, 21, 30, tzinfo=UTC))
    # Then the first two are alike, and the last says when
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert not Page.of(tmp_path / "a.html").all("time")
    assert "2026-11-22 21:30 UTC" in Page.of(tmp_path / "c.html").text


@pytest.mark.parametrize("events", [40, 41, 151])
def test_many_events_get_smaller_pictures(tmp_path: Path, events: int) -> None:
    # Given so many events, whose pictures are wide and low to keep the test quick
    shot = event(tmp_path)
    for name in ("before.jpg", "after.jpg"):
        picture(tmp_path / name, size=(1200, 14))
    # When the report is written
    write_report([result(events=(shot,) * events)], tmp_path / "report.html")
    # Then their width is the documented one
    widths = {image["width"] for image in Page.of(tmp_path / "report.html").all("img")}
    assert widths == {{40: "960", 41: "640", 151: "400"}[events]}
    assert "at most 960 pixels wide (640 from 41 events on, 400 from 151 on)" in DOCS.read_text(encoding="utf-8")


def test_markers_that_lie_close_together_share_one_number(tmp_path: Path) -> None:
    # Given three events, two of them half a second apart in forty
    shots = tuple(event(tmp_path, time_s=time_s) for time_s in (10.0, 10.5, 20.0))
    write_report([result(events=shots)], tmp_path / "report.html")
    page = Page.of(tmp_path / "report.html")
    # Then all have a marker and two have a number
    assert len(page.all("circle", class_="reach")) == 3
    assert len(page.all("text", class_="event-number")) == 2


@pytest.mark.parametrize("theme", [0, 1, 2])
@pytest.mark.parametrize(
    ("front", "back", "least"),
    [
        ("text", "page", 7.0),
        ("text", "card", 7.0),
        ("quiet", "page", 4.5),
        ("quiet", "card", 4.5),
        ("link", "card", 4.5),
        ("bar", "card", 4.5),
        ("event", "card", 4.5),
        ("card", "event", 4.5),
        ("truth-text", "truth", 4.5),
        ("warn-text", "warn", 4.5),
        ("series", "card", 3.0),
        ("bar", "truth", 3.0),
        ("series", "truth", 3.0),
    ],
)
def test_colours_have_the_contrast_that_wcag_asks_for(theme: int, front: str, back: str, least: float) -> None:
    # Given the light theme, the dark one and the printed one
    blocks = re.findall(r":root \{(.*?)\}", CSS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]+);", blocks[theme]))
    # When the contrast of two colours is computed (WCAG 2.2, section 1.4.3)
    light, dark = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
    # Then it is AA, or better
    assert (light + 0.05) / (dark + 0.05) >= least


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    channels = (int(digits[index : index + 2], 16) / 255 for index in (0, 2, 4))
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_page_follows_light_and_dark_small_screens_and_paper() -> None:
    # Given the style sheet, then each has its rules
    css = CSS.read_text(encoding="utf-8")
    for query in ("(prefers-color-scheme: dark)", "(max-width: 640px)", "print", "(prefers-reduced-motion: reduce)"):
        assert f"@media {query} {{" in css


def test_the_documentation_names_every_fact_and_part_that_the_page_shows(tmp_path: Path) -> None:
    # Given a report with all its parts, and its documentation
    results = [result(events=(event(tmp_path),), warnings=("cut off",)), result(video="b.mp4")]
    write_report(results, tmp_path / "report.html", truth={"clips/yard.mp4": [(0, 9, "empty")]})
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    docs = DOCS.read_text(encoding="utf-8")
    # Then each fact has its row, and each part its words, on both sides
    facts = dict.fromkeys(re.findall(r"<dt>(.*?)</dt>", html))
    assert facts
    assert [fact for fact in facts if f"| {fact} |" not in docs] == []
    for words in ("Summary", "Novelty over time", "Show changed regions", "Before", "After", "key frames only"):
        assert words in html
        assert words in docs
    # … and the figures are those of the code
    assert f"drawn in {timeline.COLUMNS} columns" in docs
    assert f"more than {timeline.LOG_ABOVE} times the threshold" in docs


@pytest.mark.parametrize("page", sorted(CSS.parent.glob("*.html.j2")), ids=lambda page: page.name)
def test_pictures_are_drawn_with_the_page_that_holds_them(page: Path) -> None:
    # Then neither printing nor a screenshot finds empty boxes: nothing is put off until somebody scrolls or waits
    assert "<img" in page.read_text()
    assert not re.search(r"<img[^>]*\b(loading|decoding)=", page.read_text())
