"""Read-out of a simulated camera: read modes with their geometry, speeds, amplifiers and gains.

The methods named as the functions of the library take their arguments after the time, and give code and outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from drivers.detector.andor_sdk2_calls import PARAMETER_INVALID, Code, ReadMode
from drivers.detector.emulators.andor_acquisition import Geometry

Answer = tuple[int, list[Any]]
"""Code, and the outputs; none where the library did not write them."""

BITS = 16
HS_SPEEDS_MHZ = (1.0, 0.1, 0.05)
VS_SPEEDS_US = (16.0, 32.0, 64.0)
PREAMP_GAINS = (1.0, 2.0, 4.0)
EM_GAIN_RANGE = (2, 300)


class ReadOut:
    """How a sensor is read.

    :param columns: Pixels along the wavelength axis. :param rows: Rows.
    :param em: Whether there is a register with electron multiplication beside the conventional one.
    """

    def __init__(self, columns: int, rows: int, em: bool) -> None:
        self._columns = columns
        self._rows = rows
        self._em = em
        self._mode = ReadMode.FVB
        self._tracks: dict[ReadMode, tuple[tuple[int, int], ...]] = {ReadMode.FVB: ((1, rows),)}
        self._image = Geometry(tuple((row, row) for row in range(1, rows + 1)), 1, columns, 1, rows)
        self._hs_speed_mhz = HS_SPEEDS_MHZ[0]
        self._vs_speed_us = VS_SPEEDS_US[0]
        self._em_gain = EM_GAIN_RANGE[0]
        self._amplifiers = ("Electron Multiplying", "Conventional") if em else ("Conventional",)

    @property
    def geometry(self) -> Geometry:
        """Get what is read; all rows in one while the tracks of the read mode are not set."""
        if self._mode is ReadMode.IMAGE:
            return self._image
        tracks = self._tracks.get(self._mode, self._tracks[ReadMode.FVB])
        return Geometry(tracks, 1, self._columns, 1, self._rows)

    @property
    def duration_s(self) -> float:
        """Get the read-out time in s: all rows are shifted, and each band goes through the register."""
        shifts_s = self._rows * self._vs_speed_us * 1e-6
        return shifts_s + len(self.geometry.bands) * self._columns / (self._hs_speed_mhz * 1e6)

    def SetReadMode(self, t: float, mode: int) -> Answer:
        if mode not in set(ReadMode):
            return Code.P1INVALID, []
        self._mode = ReadMode(mode)
        return Code.SUCCESS, []

    def SetSingleTrack(self, t: float, centre: int, height: int) -> Answer:
        if not 1 <= centre <= self._rows:
            return Code.P1INVALID, []
        first = centre - (height - 1) // 2
        if height < 1 or first < 1 or first + height - 1 > self._rows:
            return Code.P2INVALID, []
        self._tracks[ReadMode.SINGLE_TRACK] = ((first, first + height - 1),)
        return Code.SUCCESS, []

    def SetMultiTrack(self, t: float, number: int, height: int, offset: int) -> Answer:
        rows = self._rows
        if not 1 <= number <= rows:
            return Code.P1INVALID, []
        if not 1 <= height <= rows // number:
            return Code.P2INVALID, []
        gap = rows // number - height
        bottom = 1 + gap // 2 + offset
        tracks = tuple((bottom + i * (height + gap), bottom + i * (height + gap) + height - 1) for i in range(number))
        if tracks[0][0] < 1 or tracks[-1][1] > rows:
            return Code.P3INVALID, []
        self._tracks[ReadMode.MULTI_TRACK] = tracks
        return Code.SUCCESS, [bottom, gap]

    def SetRandomTracks(self, t: float, number: int, areas: Sequence[int]) -> Answer:
        if number < 1:
            return Code.P1INVALID, []
        limits = [int(row) for row in areas]
        tracks = tuple(zip(limits[0 : 2 * number : 2], limits[1 : 2 * number : 2], strict=True))
        rising = [row for track in tracks for row in track]
        if rising[0] < 1 or rising[-1] > self._rows or rising != sorted(rising):
            return Code.P2INVALID, []
        self._tracks[ReadMode.RANDOM_TRACK] = tracks
        return Code.SUCCESS, []

    def SetImage(self, t: float, hbin: int, vbin: int, hstart: int, hend: int, vstart: int, vend: int) -> Answer:
        width, height = hend - hstart + 1, vend - vstart + 1
        bad = (
            hbin < 1 or hbin > self._columns,
            vbin < 1 or vbin > self._rows,
            not 1 <= hstart <= self._columns,
            hend < hstart or hend > self._columns or width % max(hbin, 1) != 0,
            not 1 <= vstart <= self._rows,
            vend < vstart or vend > self._rows or height % max(vbin, 1) != 0,
        )
        for code, is_bad in zip(PARAMETER_INVALID, bad, strict=True):
            if is_bad:
                return code, []
        bands = tuple((row, row + vbin - 1) for row in range(vstart, vend + 1, vbin))
        self._image = Geometry(bands, hstart, hend, hbin, self._rows)
        return Code.SUCCESS, []

    def GetNumberADChannels(self, t: float) -> Answer:
        return Code.SUCCESS, [1]

    def SetADChannel(self, t: float, channel: int) -> Answer:
        return (Code.SUCCESS if channel == 0 else Code.P1INVALID), []

    def GetBitDepth(self, t: float, channel: int) -> Answer:
        return (Code.SUCCESS, [BITS]) if channel == 0 else (Code.P1INVALID, [])

    def GetNumberAmp(self, t: float) -> Answer:
        return Code.SUCCESS, [len(self._amplifiers)]

    def SetOutputAmplifier(self, t: float, amplifier: int) -> Answer:
        if amplifier not in range(len(self._amplifiers)):
            return Code.P1INVALID, []
        self._hs_speed_mhz = HS_SPEEDS_MHZ[0]
        return Code.SUCCESS, []

    def GetAmpDesc(self, t: float, amplifier: int, size: int, length: int) -> Answer:
        if amplifier not in range(len(self._amplifiers)):
            return Code.P1INVALID, []
        return Code.SUCCESS, [self._amplifiers[amplifier][: length - 1]]

    def GetNumberHSSpeeds(self, t: float, channel: int, amplifier: int) -> Answer:
        return self._chosen((channel, 1), (amplifier, len(self._amplifiers))) or (Code.SUCCESS, [len(HS_SPEEDS_MHZ)])

    def GetHSSpeed(self, t: float, channel: int, amplifier: int, index: int) -> Answer:
        bad = self._chosen((channel, 1), (amplifier, len(self._amplifiers)), (index, len(HS_SPEEDS_MHZ)))
        return bad or (Code.SUCCESS, [_f32(HS_SPEEDS_MHZ[index])])

    def SetHSSpeed(self, t: float, amplifier: int, index: int) -> Answer:
        bad = self._chosen((amplifier, len(self._amplifiers)), (index, len(HS_SPEEDS_MHZ)))
        if not bad:
            self._hs_speed_mhz = HS_SPEEDS_MHZ[index]
        return bad or (Code.SUCCESS, [])

    def GetNumberVSSpeeds(self, t: float) -> Answer:
        return Code.SUCCESS, [len(VS_SPEEDS_US)]

    def GetVSSpeed(self, t: float, index: int) -> Answer:
        return self._chosen((index, len(VS_SPEEDS_US))) or (Code.SUCCESS, [_f32(VS_SPEEDS_US[index])])

    def SetVSSpeed(self, t: float, index: int) -> Answer:
        bad = self._chosen((index, len(VS_SPEEDS_US)))
        if not bad:
            self._vs_speed_us = VS_SPEEDS_US[index]
        return bad or (Code.SUCCESS, [])

    def GetFastestRecommendedVSSpeed(self, t: float) -> Answer:
        return Code.SUCCESS, [0, _f32(VS_SPEEDS_US[0])]

    def GetNumberPreAmpGains(self, t: float) -> Answer:
        return Code.SUCCESS, [len(PREAMP_GAINS)]

    def GetPreAmpGain(self, t: float, index: int) -> Answer:
        return self._chosen((index, len(PREAMP_GAINS))) or (Code.SUCCESS, [_f32(PREAMP_GAINS[index])])

    def SetPreAmpGain(self, t: float, index: int) -> Answer:
        return self._chosen((index, len(PREAMP_GAINS))) or (Code.SUCCESS, [])

    def IsPreAmpGainAvailable(self, t: float, channel: int, amplifier: int, speed: int, gain: int) -> Answer:
        return Code.SUCCESS, [1]

    def GetEMGainRange(self, t: float) -> Answer:
        return (Code.SUCCESS, list(EM_GAIN_RANGE)) if self._em else (Code.NOT_SUPPORTED, [])

    def SetEMCCDGain(self, t: float, gain: int) -> Answer:
        if not self._em:
            return Code.NOT_SUPPORTED, []
        if not EM_GAIN_RANGE[0] <= gain <= EM_GAIN_RANGE[1]:
            return Code.P1INVALID, []
        self._em_gain = gain
        return Code.SUCCESS, []

    def GetEMCCDGain(self, t: float) -> Answer:
        return (Code.SUCCESS, [self._em_gain]) if self._em else (Code.NOT_SUPPORTED, [])

    def _chosen(self, *indices: tuple[int, int]) -> Answer | None:
        """Get the code for the first index that is not below its count, or None."""
        for code, (index, count) in zip(PARAMETER_INVALID, indices, strict=False):
            if not 0 <= index < count:
                return code, []
        return None


def _f32(value: float) -> float:
    """Get a number as it passes through a C float."""
    return float(np.float32(value))
