"""Image transforms as texts: what is asked, what is signed, what is shown."""

from __future__ import annotations

import pytest

from socle_platform.config.storage import ImageSettings
from socle_storage.bodies import Fields
from socle_storage.errors import StorageError
from socle_storage.transforms import Transform, parse_signed, parse_transform

LIMITS = ImageSettings()


@pytest.mark.parametrize(
    ("query", "shown", "signed"),
    [
        ({}, "", ""),
        ({"width": "200"}, "width:200,resizing_type:fill", "width:200,resize:cover"),
        (
            {"width": 200, "height": 100, "quality": 60},
            "height:100,width:200,resizing_type:fill,quality:60",
            "height:100,width:200,resize:cover,quality:60",
        ),
        ({"width": 9999, "resize": "contain"}, "width:2000,resizing_type:fit", "width:2000,resize:contain"),
        ({"height": 1, "resize": "fill"}, "height:1,resizing_type:force", "height:1,resize:fill"),
        ({"format": "origin"}, "", ""),
        ({"format": "avif"}, "format:avif", "format:avif"),
        ({"width": 0}, "", ""),
        ({"gravity": "sm", "x_offset": 1}, "gravity:sm", "gravity:sm"),
        ({"gravity": "no"}, "gravity:no", "gravity:no"),
        ({"gravity": "so", "x_offset": 5}, "gravity:so:5:0", "gravity:so:5:0"),
        ({"gravity": "fp", "x_offset": "0.5", "y_offset": 0.25}, "gravity:fp:0.5:0.25", "gravity:fp:0.5:0.25"),
    ],
)
def test_what_is_asked_and_what_is_shown(query: dict[str, object], shown: str, signed: str) -> None:
    transform = parse_transform(Fields(query, "querystring"), LIMITS)
    assert transform.render() == shown
    assert transform.render(signed=True) == signed
    assert parse_signed(signed).render() == shown


@pytest.mark.parametrize(
    "query",
    [
        {"width": -1},
        {"width": "wide"},
        {"quality": 19},
        {"quality": 101},
        {"resize": "stretch"},
        {"format": "gif"},
        {"gravity": "up"},
        {"gravity": "fp"},
        {"gravity": "fp", "x_offset": 2, "y_offset": 0},
        {"x_offset": "nan"},
    ],
)
def test_what_is_refused(query: dict[str, object]) -> None:
    with pytest.raises(StorageError):
        parse_transform(Fields(query), LIMITS)


def test_the_format_beside_a_signed_transform_wins() -> None:
    assert parse_signed("width:5", "origin") == Transform(width=5, format="origin")
