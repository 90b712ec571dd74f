"""Changed regions: which hang together, where they lie in words, and what drawing them does to a picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from streamwatch.offline.annotate import AMBER, connected_groups, draw_regions, place
from streamwatch.records import RGB, Box, ChangedRegion, Grid

GRID = Grid(14, 14)


def cells(*places: tuple[int, int], distance_sq: float = 1.0, grid: Grid = GRID) -> tuple[ChangedRegion, ...]:
    return tuple(
        ChangedRegion(box=grid.box(row * grid.columns + column), distance_sq=distance_sq) for row, column in places
    )


def plain(value: int, height: int = 140, width: int = 280) -> RGB:
    return np.full((height, width, 3), value, dtype=np.uint8)


def changed(before: RGB, after: RGB) -> NDArray[np.bool_]:
    return np.asarray((before != after).any(axis=2))


def test_regions_that_share_a_side_are_one_group_and_a_shared_corner_does_not_join_them() -> None:
    # Given two neighbours and one cell that touches them at a corner only
    regions = cells((3, 3), (3, 4), (4, 5))
    # When they are grouped
    groups = connected_groups(regions)
    # Then the corner stays apart
    assert groups == (regions[:2], regions[2:])


def test_every_cell_of_a_full_grid_is_one_group_however_its_fractions_were_rounded() -> None:
    # Given grids whose cell edges are no exact binary fractions
    for rows, columns in [(14, 14), (7, 13), (3, 11)]:
        grid = Grid(rows, columns)
        every = cells(*((row, column) for row in range(rows) for column in range(columns)), grid=grid)
        # When they are grouped, then nothing falls apart
        assert len(connected_groups(every)) == 1


def test_the_most_changed_group_comes_first() -> None:
    # Given a faint group named before a strong one
    faint, strong = cells((0, 0), (0, 1), distance_sq=0.3), cells((9, 9), distance_sq=0.9)
    # When they are grouped, then the strong one leads
    assert connected_groups(faint + strong) == (strong, faint)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ([(12, 1), (12, 2)], "left bottom"),
        ([(7, 1)], "left"),
        ([(1, 7)], "top"),
        ([(7, 7)], "middle"),
        ([(1, 12)], "right top"),
        ([(7, 1), (8, 1), (1, 12)], "left and right top"),
        ([(7, 1), (8, 1), (9, 1), (1, 12), (1, 13), (12, 7)], "left, right top and elsewhere"),
        ([(row, column) for row in range(14) for column in range(13)], "whole picture"),
        ([], ""),
    ],
)
def test_a_place_is_told_in_a_few_words(where: list[tuple[int, int]], words: str) -> None:
    assert place(cells(*where)) == words


@pytest.mark.parametrize("value", [0, 128, 255])
def test_only_pixels_inside_the_regions_change_and_the_given_picture_stays(value: int) -> None:
    # Given a picture and two regions of 20 × 10 pixels, one of them at the picture's corner
    picture = plain(value)
    # When they are drawn
    drawn = draw_regions(picture, cells((5, 2), (13, 13)))
    # Then the change stays within them, reaches each of them, and the picture given is as it was
    inside = np.zeros(picture.shape[:2], dtype=bool)
    inside[50:60, 40:60] = inside[130:140, 260:280] = True
    touched = changed(picture, drawn)
    assert not touched[~inside].any()
    assert touched[50:60, 40:60].any()
    assert touched[130:140, 260:280].any()
    assert (picture == value).all()


def test_a_group_gets_one_outline_and_no_line_between_its_cells() -> None:
    # Given two cells side by side on a grey picture: columns 80 to 160 of 560
    picture = plain(128, 280, 560)
    # When they are drawn
    drawn = draw_regions(picture, cells((5, 2), (5, 3))).astype(int)
    # Then along their middle row the dark and bright lines stand at the two ends, and the shared side is tint alone
    row = drawn[110, 80:160].sum(axis=1)
    middle = row[20:60]
    assert middle.max() - middle.min() < 30
    assert row[:8].min() < middle.min() - 100
    assert row[-8:].min() < middle.min() - 100


@pytest.mark.parametrize("value", [0, 20, 128, 200, 255])
def test_the_outline_stands_out_on_dark_and_on_light_pictures(value: int) -> None:
    # Given a plain picture, dark to light
    picture = plain(value, 280, 560)
    # When a region is drawn
    drawn = draw_regions(picture, cells((5, 2), (5, 3), (6, 2), (6, 3)))
    # Then some pixel of the outline differs from the picture by far more than the tint does
    luminance = drawn @ np.array([0.2126, 0.7152, 0.0722])
    assert np.abs(luminance - value).max() > 70


def test_the_outline_stands_out_on_a_picture_of_its_own_colour() -> None:
    # Given a picture in the colour of the outline
    picture = np.full((280, 560, 3), AMBER, dtype=np.uint8)
    # When a region is drawn, then the dark lines show it
    drawn = draw_regions(picture, cells((5, 2), (5, 3)))
    assert np.abs(drawn.astype(int) - picture).max() > 100


def test_a_more_changed_region_gets_a_stronger_tint() -> None:
    # Given a faint and a strong region apart from each other on black
    picture = plain(0, 280, 560)
    regions = cells((5, 2), distance_sq=1.0) + cells((5, 9), distance_sq=0.2)
    # When they are drawn
    drawn = draw_regions(picture, regions)
    # Then the middle of the strong one is brighter
    assert drawn[110, 100, 0] > 2 * drawn[110, 380, 0] > 0


def test_a_distance_that_is_not_finite_is_drawn_as_the_strongest() -> None:
    # Given a first state: no distance to anything
    picture = plain(0, 280, 560)
    # When it is drawn, then it looks like the strongest change
    endless = draw_regions(picture, cells((5, 2), distance_sq=math.inf))
    assert (endless == draw_regions(picture, cells((5, 2), distance_sq=2.0))).all()


def test_drawing_twice_gives_the_same_pixels() -> None:
    # Given a noisy picture
    picture = np.random.default_rng(7).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    regions = cells((0, 0), (0, 1), (8, 8), (13, 13))
    # When it is drawn twice, then both are alike
    assert (draw_regions(picture, regions) == draw_regions(picture, regions)).all()


def test_no_region_gives_a_copy() -> None:
    # Given no region
    picture = plain(90)
    # When it is drawn
    drawn = draw_regions(picture, ())
    # Then the picture is the same and an array of its own
    assert (drawn == picture).all()
    drawn[:] = 0
    assert (picture == 90).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 3, 3), (14, 14, 3)])
def test_pictures_smaller_than_the_grid_are_drawn_without_an_error(shape: tuple[int, int, int]) -> None:
    # Given a tiny picture, all of whose regions changed, and a region that reaches beyond the picture
    picture = np.zeros(shape, dtype=np.uint8)
    regions = (
        *cells(*((row, column) for row in range(14) for column in range(14))),
        ChangedRegion(box=Box(0.9, 0.9, 0.3, 0.3), distance_sq=1.0),
    )
    # When it is drawn, then it keeps its shape and shows the change
    drawn = draw_regions(picture, regions)
    assert drawn.shape == shape
    assert changed(picture, drawn).any()


def test_an_array_that_is_no_picture_is_refused_with_its_shape() -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 4\).*expected \(height, width, 3\) and uint8"):
        draw_regions(np.zeros((4, 4), dtype=np.uint8), ())
