"""What a driver says about its link: line settings of a wire, or the call table of a vendor library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ScalarType = Literal["i32", "u32", "i64", "u16", "f32", "f64"]


@dataclass(frozen=True, slots=True)
class WireSettings:
    """Line settings of a byte link, as the manual of the instrument gives them.

    :param write_termination: Appended to every command that is written as text.
    :param read_termination: Ends a reply that is read as text; removed from it.
    :param timeout_s: Time allowed for a reply unless the driver grants more for a command.
    :param baud_rate: Serial speed; the other serial fields likewise; ignored on sockets.
    :param rts_pulse: Take RTS off and on again when a serial port is opened, as some USB controllers want it; what the
        port has received until then is dropped.
    :param encoding: Encoding of text.
    :param by_hand: Whether a person answers instead of a device: the resource is then ``operator:``, and no other
        instrument may have that.
    """

    write_termination: bytes = b"\n"
    read_termination: bytes = b"\n"
    timeout_s: float = 2.0
    baud_rate: int = 9600
    data_bits: int = 8
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: int = 1
    xonxoff: bool = False
    rtscts: bool = False
    rts_pulse: bool = False
    encoding: str = "latin-1"
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a library function.

    :param kind: ``in`` a scalar given; ``out`` a scalar returned through a pointer; ``text_in`` a C string given;
        ``text_out`` a C string returned (the caller gives the size of the buffer); ``array_out`` an array returned
        (the caller gives the number of elements); ``array_in`` an array given; ``struct_out`` a block of equal scalars
        of which the first holds the size in bytes on entry (the caller gives the number of fields).
    :param type: C type of the scalar or element.
    """

    kind: Literal["in", "out", "text_in", "text_out", "array_in", "array_out", "struct_out"]
    type: ScalarType = "i32"


@dataclass(frozen=True, slots=True)
class LibrarySettings:
    """A vendor library as a call table.

    Every function returns an unsigned 32-bit code. A call gives one argument for each parameter that is not ``out``,
    in order, and returns the code and one value for each parameter that is ``out``, ``text_out``, ``array_out`` or
    ``struct_out``. Where a library hands out addresses of its own memory (as ``i64``), the table may list the functions
    of :mod:`labctl.transport.vendor_host` that read and write there.

    :param name: Name for messages.
    :param files: Library files to try, by ``sys.platform``, in order.
    :param functions: Parameters by function name.
    :param timeout_s: Time allowed for a call unless the driver grants more.
    :param farewell: Calls that the process of a real library makes by itself when the engine has died: function,
        arguments, and the codes after which it goes on to the next one.
    """

    name: str
    files: Mapping[str, tuple[str, ...]]
    functions: Mapping[str, tuple[Parameter, ...]] = field(repr=False)
    timeout_s: float = 10.0
    farewell: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()


LinkSettings = WireSettings | LibrarySettings
