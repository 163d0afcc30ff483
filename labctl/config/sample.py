"""The sample file: what the user knows of a sample; the truth of a simulated one stays unread."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from labctl.config.document import TomlDocument, parse_document, read_document
from labctl.config.file_table import FileTable, read_table
from labctl.config.locate import locate
from labctl.config.quantity import InUnit
from labctl.config.raw_table import RawTable
from labctl.config.table import FluenceUjCm2, LongText, ShortText, Table, WavelengthNm


class ExcitationConfig(Table):
    """How strongly a particle absorbs, and where that was measured."""

    cross_section_cm2: Annotated[float, InUnit("cm^2", at_least=1e-20, at_most=1e-9, example="2.6e-14 cm^2")] = Field(
        alias="cross_section"
    )
    cross_section_error_cm2: Annotated[float, InUnit("cm^2", at_least=0, at_most=1e-9, example="4e-15 cm^2")] | None = (
        Field(alias="cross_section_error", default=None)
    )
    wavelength_nm: WavelengthNm = Field(alias="wavelength")
    multiexciton_lifetime_ns: Annotated[float, InUnit("ns", above=0, at_most=1e6, example="0.35 ns")] | None = Field(
        alias="multiexciton_lifetime", default=None
    )
    """How long several excitons in one particle last: with longer pulses the population follows the pulse."""


class SampleTable(Table):
    """What is known of a sample before the measurement.

    ``expected_ase`` of a cavity is its laser line, the strongest of several modes.
    """

    name: ShortText
    material: ShortText
    batch: LongText = ""
    form: Literal["film", "solution", "single_particle", "cavity"] = "film"
    substrate: LongText = ""
    thickness_nm: Annotated[float, InUnit("nm", above=0, at_most=1e7, example="200 nm")] | None = Field(
        alias="thickness", default=None
    )
    expected_pl_nm: WavelengthNm | None = Field(alias="expected_pl", default=None)
    expected_ase_nm: WavelengthNm | None = Field(alias="expected_ase", default=None)
    expected_threshold_uj_cm2: FluenceUjCm2 | None = Field(alias="expected_threshold", default=None)
    expected_gain_cm1: Annotated[float, InUnit("cm^-1", above=0, at_most=1e5, example="115 cm^-1")] | None = Field(
        alias="expected_gain", default=None
    )
    excitation: ExcitationConfig | None = None
    notes: LongText = ""


class SampleConfig(FileTable):
    """A sample file; :attr:`truth` is for the simulated laboratory alone and None for a real sample."""

    sample: SampleTable
    truth: RawTable | None = None


def load_sample(name_or_path: str | Path) -> SampleConfig:
    """Read a sample file.

    :param name_or_path: Name of a shipped sample, or a path.
    :raises ConfigError: every fault in it.
    """
    return _sample(read_document(locate("samples", name_or_path)))


def parse_sample(text: str, file: str) -> SampleConfig:
    """Read a sample from text, e.g. as stored in a run.

    :raises ConfigError: every fault in it.
    """
    return _sample(parse_document(text, file))


def _sample(document: TomlDocument) -> SampleConfig:
    data = dict(document.data)
    truth = data.get("truth")
    if isinstance(truth, Mapping):
        data["truth"] = RawTable(document.file, ("truth",), document.lines, truth)
    return read_table(SampleConfig, document, data)
