"""A simulated vendor library in the shape of a loaded C library, for programs that expect one.

Every function of the call table becomes a real C function pointer, so a program may set ``argtypes`` and ``restype``
on it and pass pointers as it would to the vendor's library, and finds there what it would find.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from labctl.clock import Clock
from labctl.sim.emulator import LibraryEmulator
from labctl.transport.call_table import DTYPES
from labctl.transport.settings import LibrarySettings, Parameter

_CTYPES: dict[str, Any] = {
    "i32": ctypes.c_int32,
    "u32": ctypes.c_uint32,
    "i64": ctypes.c_int64,
    "u16": ctypes.c_uint16,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}
_ANY_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_uint32)

InputLengths = Mapping[str, Callable[[Sequence[Any]], int]]


class CtypesFacade:
    """Stands for what ``ctypes.CDLL`` returns. Calls last as long as the simulated ones do, on ``clock``.

    :param library: The simulated library.
    :param settings: Its call table.
    :param clock: Clock on which the calls last.
    :param unknown_code: What functions answer that are not in the call table; their arguments are not looked at.
    :param text_size: Size of the buffers that programs give for text.
    :param input_lengths: For functions with an ``array_in``: its length, from the scalar arguments. C does not tell.
    """

    def __init__(
        self,
        library: LibraryEmulator,
        settings: LibrarySettings,
        clock: Clock,
        *,
        unknown_code: int,
        text_size: int = 260,
        input_lengths: InputLengths | None = None,
    ) -> None:
        self._library = library
        self._settings = settings
        self._clock = clock
        self._unknown_code = unknown_code
        self._text_size = text_size
        self._input_lengths = input_lengths or {}
        self._kept: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._settings.functions:
            parameters = self._settings.functions[name]
            types = [_CTYPES[p.type] if p.kind == "in" else ctypes.c_void_p for p in parameters]
            function = ctypes.CFUNCTYPE(ctypes.c_uint32, *types)(self._entry(name, parameters))
        else:
            function = _ANY_FUNCTION(lambda: self._unknown_code)
        # C code holds only the address of a function: the object must outlive every caller.
        self._kept[name] = function
        pointer = ctypes.cast(function, _ANY_FUNCTION)
        pointer.__name__ = name
        setattr(self, name, pointer)
        return pointer

    def _entry(self, name: str, parameters: Sequence[Parameter]) -> Callable[..., int]:
        def entry(*values: Any) -> int:
            arguments = self._arguments(name, parameters, values)
            start = self._clock.now()
            done, code, outputs = self._library.call(start, name, arguments)
            self._clock.sleep(done - start)
            if len(outputs) > 0:
                written = [(p, v) for p, v in zip(parameters, values, strict=True) if p.kind.endswith("out")]
                for (parameter, address), output in zip(written, outputs, strict=True):
                    if address:
                        _write(parameter, address, output)
            return code

        return entry

    def _arguments(self, name: str, parameters: Sequence[Parameter], values: Sequence[Any]) -> list[Any]:
        scalars = [value for parameter, value in zip(parameters, values, strict=True) if parameter.kind == "in"]
        arguments: list[Any] = []
        for index, (parameter, value) in enumerate(zip(parameters, values, strict=True)):
            if parameter.kind == "in":
                arguments.append(value)
            elif parameter.kind == "text_in":
                arguments.append(ctypes.string_at(value).decode("latin-1"))
            elif parameter.kind == "text_out":
                arguments.append(self._text_size)
            elif parameter.kind == "array_out":
                # The number of elements is the next scalar, by the custom of C.
                following = zip(parameters[index:], values[index:], strict=True)
                arguments.append(next(size for later, size in following if later.kind == "in"))
            elif parameter.kind == "array_in":
                ctype = _CTYPES[parameter.type]
                length = self._input_lengths[name](scalars)
                arguments.append(list((ctype * length).from_address(value)))
            elif parameter.kind == "struct_out":
                size = _CTYPES[parameter.type].from_address(value).value
                arguments.append(size // ctypes.sizeof(_CTYPES[parameter.type]))
        return arguments


def _write(parameter: Parameter, address: int, output: Any) -> None:
    if parameter.kind == "text_out":
        content = str(output).encode("latin-1") + b"\0"
    elif parameter.kind == "out":
        content = bytes(_CTYPES[parameter.type](output))
    else:
        content = np.asarray(output, dtype=DTYPES[parameter.type]).tobytes()
    ctypes.memmove(address, content, len(content))
