"""``labctl init``: a folder to start from."""

from __future__ import annotations

from pathlib import Path

from labctl.cli.output import print_json, show
from labctl.config.locate import locate
from labctl.errors import InputError
from labctl.store.windows_names import check_names

_FILES = {
    "bench.toml": ("benches", "simulated"),
    "sample.toml": ("samples", "cdse-cds-zno"),
}
_CALIBRATION = "calibrations/simulated_attenuator.toml"


def init(directory: str, *, as_json: bool) -> int:
    """Copy the simulated bench and a sample into a new folder; existing files are left alone."""
    folder = Path(directory)
    check_names(folder, "DIR")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{directory} is a file", todo="name a folder")
    sources = {name: locate(kind, shipped) for name, (kind, shipped) in _FILES.items()}
    sources[_CALIBRATION] = locate("benches", "simulated").parent / _CALIBRATION
    written, kept = [], []
    for name, source in sources.items():
        target = folder / name
        if target.exists():
            kept.append(name)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        written.append(name)
    if as_json:
        print_json({"directory": directory, "written": written, "kept": kept})
    else:
        files = f"--bench {folder / 'bench.toml'} --sample {folder / 'sample.toml'}"
        show(f"written: {', '.join(written) or 'nothing'}" + (f"; left alone: {', '.join(kept)}" if kept else ""))
        show(f"next: labctl run fluence-sweep {files} --virtual-time")
    return 0
