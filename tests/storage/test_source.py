"""Versions: what tells one content from the next."""

from __future__ import annotations

import pytest

from soda_service.storage.source import FileVersion


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (FileVersion(5, 7), FileVersion(5, 7), True),
        (FileVersion(5, 7), FileVersion(5, 8), False),
        (FileVersion(5, 7), FileVersion(6, 7), False),
        # Copies of an object may differ in time; a list may lack tags.
        (FileVersion(5, 7, '"a"'), FileVersion(5, 8, '"a"'), True),
        (FileVersion(5, 7, '"a"'), FileVersion(5, 7, '"b"'), False),
        (FileVersion(5, 7, '"a"'), FileVersion(5, 7), True),
        (FileVersion(5, 7, '"a"'), FileVersion(5, 8), False),
    ],
)
def test_contents_are_told_apart(one: FileVersion, other: FileVersion, *, same: bool) -> None:
    assert one.is_of_same_content(other) is same
    assert other.is_of_same_content(one) is same
