"""Zones and masks: which regions they leave."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamwatch.change.zones import _inside, watched_regions
from streamwatch.records import Grid

GRID = Grid(14, 14)
Point = tuple[float, float]


def rectangle(x: float, y: float, width: float, height: float) -> list[Point]:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def table(watched: NDArray[np.bool_], grid: Grid = GRID) -> NDArray[np.bool_]:
    return watched.reshape(grid.rows, grid.columns)


def test_without_zones_and_masks_everything_is_watched() -> None:
    assert watched_regions(GRID).all()


def test_a_zone_that_follows_the_grid_is_exactly_its_regions() -> None:
    # Given a zone over rows 2…4 and columns 7…9, in either sense of rotation
    zone = rectangle(7 / 14, 2 / 14, 3 / 14, 3 / 14)
    expected = np.zeros((14, 14), dtype=np.bool_)
    expected[2:5, 7:10] = True
    for corners in (zone, zone[::-1]):
        # When the regions are chosen, then they are those, x counting columns and y rows
        assert (table(watched_regions(GRID, zones=[corners])) == expected).all()


@pytest.mark.parametrize(("covered", "watched"), [(0.4, False), (0.6, True)])
def test_a_region_belongs_to_a_zone_that_covers_half_of_it(covered: float, watched: bool) -> None:
    zone = rectangle(0, 0, (5 + covered) / 14, 1)
    assert table(watched_regions(GRID, zones=[zone]))[:, 5].all() == watched
    assert table(watched_regions(GRID, zones=[zone]))[:, :5].all()


def test_zones_add_up_within_a_region() -> None:
    # Given two zones that cover a third of column 5 each
    zones = [rectangle(5 / 14, 0, 1 / 42, 1), rectangle(5 / 14 + 2 / 42, 0, 1 / 42, 1)]
    # When both are there, then the column is watched
    assert table(watched_regions(GRID, zones=zones))[:, 5].all()


def test_a_mask_takes_out_of_a_zone_and_out_of_the_whole_picture() -> None:
    mask = rectangle(0, 0, 0.5, 1)
    assert not table(watched_regions(GRID, masks=[mask]))[:, :7].any()
    assert table(watched_regions(GRID, masks=[mask]))[:, 7:].all()
    zoned = table(watched_regions(GRID, zones=[rectangle(0, 0, 1, 3 / 14)], masks=[mask]))
    assert zoned.sum() == 3 * 7
    assert zoned[:3, 7:].all()


@pytest.mark.parametrize("grid", [GRID, Grid(7, 7), Grid(1, 1)])
@pytest.mark.parametrize("size", [0.05, 0.01, 0.001])
@pytest.mark.parametrize("at", [(0.62, 0.31), (0.0, 0.0), (0.999, 0.999), (0.5, 0.5)])
def test_the_smallest_zone_still_watches_the_region_that_it_lies_in(grid: Grid, size: float, at: Point) -> None:
    # Given a zone far smaller than a region
    x, y = (min(place, 1 - size) for place in at)
    watched = watched_regions(grid, zones=[rectangle(x, y, size, size)])
    # When the regions are chosen, then at least one is watched, and all of them lie at the zone
    assert watched.any()
    for region in np.flatnonzero(watched):
        box = grid.box(int(region))
        assert box.x < x + size
        assert x < box.x + box.width
        assert box.y < y + size
        assert y < box.y + box.height


@pytest.mark.parametrize("size", [0.05, 0.001])
def test_a_small_zone_that_is_masked_away_watches_nothing(size: float) -> None:
    assert not watched_regions(
        GRID, zones=[rectangle(0.4, 0.4, size, size)], masks=[rectangle(0.3, 0.3, 0.3, 0.3)]
    ).any()


def test_a_zone_beside_what_the_network_sees_watches_nothing() -> None:
    # Given a zone in the part of a picture that `crop` cuts off, where coordinates are below 0 or above 1
    assert not watched_regions(GRID, zones=[rectangle(-0.4, 0.2, 0.3, 0.3)]).any()
    assert not watched_regions(GRID, zones=[rectangle(1.1, 0.2, 0.001, 0.001)]).any()


def test_a_concave_polygon_leaves_out_its_notch() -> None:
    # Given a U over columns 2…11, with its notch over columns 5…8
    left, a, b, right = (column / 14 for column in (2, 5, 9, 12))
    top, floor, bottom = (row / 14 for row in (2, 8, 12))
    u = [(left, top), (a, top), (a, floor), (b, floor), (b, top), (right, top), (right, bottom), (left, bottom)]
    watched = table(watched_regions(GRID, zones=[u]))
    # When the regions are chosen, then the notch is not watched
    assert not watched[2:8, 5:9].any()
    assert watched[2:12, 2:5].all()
    assert watched[8:12, 5:9].all()
    assert watched.sum() == 10 * 10 - 6 * 4


def test_a_circle_covers_its_area() -> None:
    # Given a circle of radius 0.4 as 100 corners
    circle = [
        (0.5 + 0.4 * math.cos(angle), 0.5 + 0.4 * math.sin(angle)) for angle in np.linspace(0, 2 * math.pi, 100, False)
    ]
    # When its share of the lattice is counted, then it is πr²
    assert _inside(circle, (224, 224)).mean() == pytest.approx(math.pi * 0.16, abs=0.005)


corner = st.tuples(st.floats(-0.3, 1.3), st.floats(-0.3, 1.3))


@settings(max_examples=60, deadline=None)
@given(corner, corner, corner)
def test_points_inside_a_triangle_are_those_on_the_same_side_of_all_its_edges(a: Point, b: Point, c: Point) -> None:
    # Given any triangle with an area
    area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
    assume(abs(area) > 1e-3)
    ys, xs = (np.mgrid[0:20, 0:30] + 0.5) / np.array([20, 30])[:, None, None]
    sides = [(q[0] - p[0]) * (ys - p[1]) - (xs - p[0]) * (q[1] - p[1]) for p, q in ((a, b), (b, c), (c, a))]
    expected = np.all(np.stack(sides) * np.sign(area) > 0, axis=0)
    # When the points of a lattice are told apart, then cross products say the same, but for points on an edge
    on_an_edge = np.any(np.abs(np.stack(sides)) < 1e-9, axis=0)
    assert ((_inside([a, b, c], (20, 30)) == expected) | on_an_edge).all()


@settings(max_examples=40, deadline=None)
@given(corner, corner, corner)
def test_a_triangle_as_zone_and_as_mask_never_watch_the_same_region_but_at_its_edge(
    a: Point, b: Point, c: Point
) -> None:
    # Given any triangle with an area
    assume(abs((b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])) > 1e-2)
    zone, rest = watched_regions(GRID, zones=[[a, b, c]]), watched_regions(GRID, masks=[[a, b, c]])
    # When it is used either way, then together they watch everything, and both only what is half and half or a sliver
    assert (zone | rest).all()
    shares = _inside([a, b, c], (224, 224)).reshape(14, 16, 14, 16).mean(axis=(1, 3)).reshape(-1)
    assert (shares[zone & rest] <= 0.5).all()
