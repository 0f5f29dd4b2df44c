"""Names of answers."""

from __future__ import annotations

import re

from soda_service.cutout.naming import filename_of


def test_strange_names_of_hdus_make_safe_names_of_files() -> None:
    """No slash, no quote, no letter beyond ASCII, not too long, and still two."""
    strange = ["PSF/PIFF/INTERP", 'A"B', "Ü", "..", "X" * 199, "X" * 200]
    names = [filename_of("stem", ["whole"], [one]) for one in strange]
    assert len(set(names)) == len(strange)
    for name in names:
        assert re.fullmatch(r"stem_[A-Za-z0-9._+-]{1,100}\.fits", name)
