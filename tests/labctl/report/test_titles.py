"""The title of a figure has room for the sample and the result."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from labctl.report.titles import sample_text


@pytest.mark.parametrize(
    ("longest", "text"),
    [
        (None, "CdS/CdSe rings, large crown (quantum-ring-large)"),
        (48, "CdS/CdSe rings, large crown (quantum-ring-large)"),
        (40, "CdS/CdSe rings, la… (quantum-ring-large)"),
        (26, "quantum-ring-large"),
    ],
)
def test_the_material_is_shortened_and_the_name_is_not(longest, text):
    sample = {"name": "quantum-ring-large", "material": "CdS/CdSe rings, large crown"}
    run = SimpleNamespace(header={"sample": sample})
    assert sample_text(run, longest) == text  # type: ignore[arg-type]
