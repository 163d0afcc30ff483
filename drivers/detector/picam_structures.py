"""Structures of the PICam library, 64 bit. Their memory is the library's: they travel as copies, in words of 16 bits.

The order of the fields in :class:`RoisConstraint` is that of the vendor's header, like the rest; nothing was run.
"""

from __future__ import annotations

import ctypes
from typing import Self

import numpy as np
from numpy.typing import NDArray


class _Words:
    """What all structures can do: become words, and be made from them."""

    @classmethod
    def from_words(cls, words: NDArray[np.uint16]) -> Self:
        """Make one from a copy of its memory, shape (size / 2,)."""
        return cls.from_buffer_copy(np.asarray(words, dtype="<u2").tobytes())  # pyright: ignore[reportAttributeAccessIssue]

    def to_words(self) -> NDArray[np.uint16]:
        """Get its memory, shape (size / 2,)."""
        return np.frombuffer(bytes(self), dtype="<u2")  # pyright: ignore[reportArgumentType]


class CameraID(_Words, ctypes.Structure):
    """PicamCameraID: which camera."""

    _fields_ = (
        ("model", ctypes.c_int32),
        ("computer_interface", ctypes.c_int32),
        ("sensor_name", ctypes.c_char * 64),
        ("serial_number", ctypes.c_char * 64),
    )


class Roi(_Words, ctypes.Structure):
    """PicamRoi: a region of interest; origin at 0, sizes in pixels before binning."""

    _fields_ = (
        ("x", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("x_binning", ctypes.c_int32),
        ("y", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("y_binning", ctypes.c_int32),
    )


class Rois(_Words, ctypes.Structure):
    """PicamRois: address and number of the regions of interest."""

    _fields_ = (("roi_array", ctypes.c_uint64), ("roi_count", ctypes.c_int32))


class AvailableData(_Words, ctypes.Structure):
    """PicamAvailableData: where new readouts lie; valid until the next wait or acquisition."""

    _fields_ = (("initial_readout", ctypes.c_uint64), ("readout_count", ctypes.c_int64))


class AcquisitionStatus(_Words, ctypes.Structure):
    """PicamAcquisitionStatus; the rate is in 1/s."""

    _fields_ = (("running", ctypes.c_int32), ("errors", ctypes.c_int32), ("readout_rate", ctypes.c_double))


class RangeConstraint(_Words, ctypes.Structure):
    """PicamRangeConstraint: limits and step of a number; excluded and outlying values by address."""

    _fields_ = (
        ("scope", ctypes.c_int32),
        ("severity", ctypes.c_int32),
        ("empty_set", ctypes.c_int32),
        ("minimum", ctypes.c_double),
        ("maximum", ctypes.c_double),
        ("increment", ctypes.c_double),
        ("excluded_values_array", ctypes.c_uint64),
        ("excluded_values_count", ctypes.c_int32),
        ("outlying_values_array", ctypes.c_uint64),
        ("outlying_values_count", ctypes.c_int32),
    )


class RoisConstraint(_Words, ctypes.Structure):
    """PicamRoisConstraint: which regions are allowed; allowed binnings by address, 32-bit integers."""

    _fields_ = (
        ("scope", ctypes.c_int32),
        ("severity", ctypes.c_int32),
        ("empty_set", ctypes.c_int32),
        ("rules", ctypes.c_int32),
        ("maximum_roi_count", ctypes.c_int32),
        ("x", RangeConstraint),
        ("width", RangeConstraint),
        ("x_binning_limits_array", ctypes.c_uint64),
        ("x_binning_limits_count", ctypes.c_int32),
        ("y", RangeConstraint),
        ("height", RangeConstraint),
        ("y_binning_limits_array", ctypes.c_uint64),
        ("y_binning_limits_count", ctypes.c_int32),
    )


def words_in(structure: type[ctypes.Structure]) -> int:
    """Get the number of 16-bit words of a structure."""
    return ctypes.sizeof(structure) // 2
