"""labctl runs the optical experiments of a nanocrystal laboratory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labctl.store.run import open_run

__all__ = ["open_run"]


def __getattr__(name: str) -> Any:
    """Import the public names when they are asked for, so that ``import labctl`` stays light."""
    if name == "open_run":
        from labctl.store.run import open_run

        return open_run
    raise AttributeError(f"module 'labctl' has no attribute {name!r}")
