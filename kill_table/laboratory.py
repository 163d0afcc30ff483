"""The laboratory in a process of its own, and a bench file that leads to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labctl.clock import RealClock, VirtualClock
from labctl.config.locate import locate
from labctl.run.kept_laboratory import served_text
from labctl.sim.remote import RemoteLaboratory


class Served:
    """The shipped laboratory in a process of its own, and a bench file that leads to it.

    :param folder: Where the bench file is written.
    :param addresses: What the server says of itself.
    :param raw: Whether the wires are plain sockets in scaled time; else frames, which virtual time needs.
    :param of: The shipped bench whose laboratory it is.
    """

    def __init__(self, folder: Path, addresses: dict[str, Any], *, raw: bool, of: str = "simulated") -> None:
        self.virtual_time = not raw
        host, _, port = addresses["laboratory"]["tcp"].rpartition(":")
        self.address = (host, int(port))
        self.bench = str(folder / "bench.toml")
        Path(self.bench).write_text(_bench_text(of, addresses, raw=raw), encoding="utf-8")

    def state(self) -> dict[str, Any]:
        """Ask the laboratory what is true in it."""
        laboratory = RemoteLaboratory(self.address, VirtualClock() if self.virtual_time else RealClock(), 0)
        try:
            return dict(laboratory.state())
        finally:
            laboratory.close()


def _bench_text(of: str, addresses: dict[str, Any], *, raw: bool) -> str:
    source = locate("benches", of)
    framed = addresses["laboratory"]["tcp"]
    text = served_text(source, framed)
    for role, entry in addresses["instruments"].items() if raw else ():
        # The camera is a vendor library: its calls go over the framed port.
        if role == "detector":
            continue
        line = f'[instruments.{role}]\ndriver = "{entry["driver"]}"\nresource = "sim+tcp://{framed}"'
        if line not in text:
            raise ValueError(f"the shipped bench has no {line!r}")
        text = text.replace(line, line.replace(f"sim+tcp://{framed}", f"socket://{entry['tcp']}"))
    return text
