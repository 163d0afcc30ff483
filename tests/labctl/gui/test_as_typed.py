"""A command is quoted for the shell it will be pasted into."""

from __future__ import annotations

import pytest

from labctl.gui.command import as_typed


@pytest.mark.parametrize(
    ("platform", "typed"),
    [
        ("posix", "labctl run fluence-sweep --bench 'C:\\my lab\\bench.toml' --set 'note=a b'"),
        ("nt", 'labctl run fluence-sweep --bench "C:\\my lab\\bench.toml" --set "note=a b"'),
    ],
)
def test_a_command_as_one_would_type_it(platform: str, typed: str) -> None:
    arguments = ["run", "fluence-sweep", "--bench", r"C:\my lab\bench.toml", "--set", "note=a b"]
    assert as_typed(arguments, platform) == typed
