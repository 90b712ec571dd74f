"""`streamwatch eval` as its users run it, on small pictures and the embedded network."""

from __future__ import annotations

import csv
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from streamwatch.cli import main
from tests.pictures import random_picture
from tests.running import run

KINDS = 4


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes, each as query, as positive (a little brighter) and with another scene as negative."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = ["query;positive;negative;class"]
    for kind in range(KINDS):
        pixels = random_picture(kind, width=96, height=80).rgb()
        Image.fromarray(pixels).save(folder / f"{kind}_q.png")
        brighter = np.clip(pixels.astype(np.int16) + 12, 0, 255).astype(np.uint8)
        Image.fromarray(brighter).save(folder / f"{kind}_p.png")
        Image.fromarray(random_picture(100 + kind, width=96, height=80).rgb()).save(folder / f"{kind}_n.png")
        rows.append(f"{kind}_q.png;{kind}_p.png;{kind}_n.png;scene {kind % 2}")
    (folder / "triplets.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: what is embedded once is not embedded again."""
    return tmp_path_factory.mktemp("cache")


def evaluated(pictures: Path, cache: Path, out: Path, *more: str) -> int:
    arguments = ["eval", str(pictures / "triplets.csv"), "--network", "lite0", "--cache", str(cache), "--out", str(out)]
    return main([*arguments, *more])


def result_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_every_layer_pooling_and_metric_is_evaluated_and_printed_as_json(
    pictures: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # When two layers, two poolings and two metrics are asked for
    more = ["--layer", "features", "--layer", "blocks.6.0", "--pooling", "mean", "--pooling", "gem"]
    code = evaluated(pictures, cache, tmp_path / "out", *more, "--metric", "cosine", "--metric", "dice", "--json")
    # Then every combination has its figures
    assert code == 0
    results = result_of(capsys)["results"]
    assert {(each["layer"], each["pooling"], each["metric"]) for each in results} == {
        (layer, pooling, metric)
        for layer in ("features", "blocks.6.0")
        for pooling in ("mean", "gem")
        for metric in ("cosine", "dice")
    }
    for each in results:
        assert each["network"] == "lite0"
        assert each["triplets"] == KINDS
        assert 0 <= each["low"] <= each["accuracy"] <= each["high"] <= 1
        assert each["ties"] >= 0
        assert each["class_restricted"]["short"] == KINDS
        assert each["retrieval"]["recall"]["1"] <= each["retrieval"]["cmc"]["1"]
    # And a little brightness does not make the network mistake a scene for another
    cosine = [each for each in results if each["metric"] == "cosine"]
    assert all(each["accuracy"] == 1 for each in cosine)


def test_report_table_and_run_are_written(
    pictures: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table = tmp_path / "out", tmp_path / "table.csv"
    assert evaluated(pictures, cache, out, "--unit-length", "--raw", "--csv", str(table), "--best", "50") == 0
    printed = capsys.readouterr().out
    # Then the matrix is on the terminal, with both lengths
    assert "lite0/features/mean" in printed
    assert "lite0/features/mean:raw" in printed
    assert "100.0 (100.0–100.0)" in printed
    # And in the CSV file
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["metric"], row["unit_length"]) for row in rows[:3]] == [
        *(("sqeuclidean", "True"), ("cosine", "True"), ("hamming-binary", "True"))
    ]
    assert all(float(row["mean_average_precision"]) > 0 for row in rows)
    # And the report stands on its own: pictures and maps within, nothing from elsewhere, no style or script obeyed
    page = html.unescape((out / "report.html").read_text(encoding="utf-8"))
    assert page.count("<svg") == len(rows) == 6
    assert "data:image/jpeg;base64," in page
    assert "default-src 'none'" in page
    assert not re.search(r"<script|\sstyle=|(?:src|href)=\"(?!data:)", page)


def test_an_interrupted_run_goes_on_where_it_stopped(pictures: Path, tmp_path: Path) -> None:
    # Given a cache that a run left when it was stopped in the middle of a vector
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert evaluated(pictures, whole, tmp_path / "a", "--metric", "cosine") == 0
    cut.mkdir()
    for path in whole.iterdir():
        data = path.read_bytes()
        keep = {".vectors": 5 * 4 * 1280 + 17, ".hashes": 7 * 65 - 3}.get(path.suffix, len(data))
        (cut / path.name).write_bytes(data[:keep])
    [vectors] = cut.glob("*.vectors")
    before = vectors.read_bytes()[: 5 * 4 * 1280]
    # When it is run again
    assert evaluated(pictures, cut, tmp_path / "b", "--metric", "cosine") == 0
    # Then what was whole stayed, the rest was added, and the outcome is the same
    assert vectors.read_bytes()[: 5 * 4 * 1280] == before
    assert vectors.stat().st_size == 3 * KINDS * 4 * 1280
    assert (tmp_path / "a" / "run.json").read_text() == (tmp_path / "b" / "run.json").read_text()
    # And a third run embeds nothing
    stamp = vectors.stat().st_mtime_ns
    assert evaluated(pictures, cut, tmp_path / "b", "--metric", "cosine") == 0
    assert vectors.stat().st_mtime_ns == stamp


def test_equal_pictures_under_two_names_tie(
    pictures: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "copy.png").write_bytes((pictures / "0_p.png").read_bytes())
    text = f"query,positive,negative\n{pictures / '0_q.png'},{pictures / '0_p.png'},copy.png\n"
    (tmp_path / "list.csv").write_text(text)
    command = ["eval", str(tmp_path / "list.csv"), "--network", "lite0", "--cache", str(cache), "--out", str(tmp_path)]
    assert main([*command, "--json"]) == 0
    assert [(each["ties"], each["accuracy"]) for each in result_of(capsys)["results"]] == [(1, 0.5)] * 3


def test_damaged_images_and_odd_rows_are_reported_and_the_rest_is_evaluated(
    pictures: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a list with a damaged image, a missing one, and a query that is its own positive
    whole = (pictures / "1_p.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    names = [str(pictures / f"{kind}_{role}.png") for kind in range(2) for role in "qpn"]
    rows = [names[:3], [names[3], str(tmp_path / "cut.png"), names[5]], [*names[3:5], "none.png"], [names[3]] * 2]
    (tmp_path / "list.csv").write_text("query,positive,negative\n" + "\n".join(",".join(row) for row in rows) + "\n")
    command = ["eval", str(tmp_path / "list.csv"), "--network", "lite0", "--cache", str(cache), "--out", str(tmp_path)]
    # When it is evaluated
    assert main([*command, "--metric", "cosine", "--json"]) == 0
    # Then one triplet is left, and the others' rows are said with their reasons
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["results"][0]["triplets"] == 1
    assert [each["row"] for each in document["skipped"]] == [3, 4, 5]
    assert "cut.png is damaged" in document["skipped"][0]["reason"]
    assert "cut.png is damaged" in captured.err


def test_a_metric_that_cannot_be_computed_is_said_and_the_others_are_shown(
    pictures: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluated(pictures, cache, tmp_path, "--metric", "cosine", "--metric", "mahalanobis", "--json") == 2
    document = result_of(capsys)
    assert [each["metric"] for each in document["results"]] == ["cosine"]
    assert "mahalanobis got 12 vectors" in document["failed"][0]["error"]


def test_two_runs_are_compared(pictures: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, metric in (("one", "cosine"), ("two", "cosine")):
        assert evaluated(pictures, cache, tmp_path / name, "--metric", metric) == 0
    capsys.readouterr()
    assert main(["eval", "--compare", str(tmp_path / "one"), str(tmp_path / "two"), "--json"]) == 0
    [comparison] = result_of(capsys)["comparisons"]
    assert (comparison["triplets"], comparison["difference"], comparison["p_value"]) == (KINDS, 0, 1)
    assert main(["eval", "--compare", str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    assert "4 triplets in both" in capsys.readouterr().out


def test_a_quick_look_takes_a_few(
    pictures: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluated(pictures, cache, tmp_path, "--limit", "2", "--json") == 0
    assert {each["triplets"] for each in result_of(capsys)["results"]} == {2}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--metric", "cosinus"], 2, "did you mean 'cosine'"),
        (["--pooling", "gen"], 2, "did you mean 'gem'"),
        (["--layer", "fc7"], 4, "no layer 'fc7'"),
        (["--weights", "a", "--weights", "b"], 2, "--weights is given 2 times for 1 networks"),
        (["--best", "60"], 2, "--best is 60 %"),
        (["--limit", "0"], 2, "--limit is 0"),
        (["--top", "0"], 2, "--top is 0"),
        (["--fit", "stretch"], 2, "squash, crop, letterbox"),
        (["--compare", "x", "y"], 2, "leave the list of triplets out"),
    ],
)
def test_wrong_options_end_in_one_message(
    pictures: Path,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    assert evaluated(pictures, cache, tmp_path / "out", *arguments) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_cache_in_use_is_refused(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl

    # Given a cache that another process holds
    assert evaluated(pictures, tmp_path / "cache", tmp_path / "out", "--metric", "cosine") == 0
    [held] = (tmp_path / "cache").glob("*.hashes")
    capsys.readouterr()
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert evaluated(pictures, tmp_path / "cache", tmp_path / "out", "--metric", "cosine") == 5
    assert "another run is using" in capsys.readouterr().err


def test_help_has_an_example_and_the_exit_codes(tmp_path: Path) -> None:
    done = run("eval", "--help", cwd=tmp_path)
    assert done.code == 0
    assert "streamwatch eval triplets.csv --network lite0" in done.out
    assert "exit codes:" in done.out


def test_no_list_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval"]) == 2
    assert "no list of triplets is named" in capsys.readouterr().err
