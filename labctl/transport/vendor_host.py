"""The process in which a vendor library lives. Run by its file name; needs the standard library only.

Vendor libraries hang, abort and print. Here they do so without harm to the engine: requests come as lines of JSON on
the standard input, replies go as lines of JSON to the standard output, arrays lie in a block of shared memory (a
mapped file) into which the library itself writes. Whatever the library prints goes to the standard error.

The process belongs to the engine. When the engine closes its end of the pipe, or dies, the process makes the calls of
farewell and ends; if the library hangs, a timer ends the process all the same.

The main thread calls the library; a second thread only reads requests, so that it notices the end of the pipe during
a call.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib.util
import json
import mmap
import os
import queue
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

FAREWELL_S = 5.0
"""Time from the end of the pipe to the end of the process, at most, in s."""

PYTHON_PREFIX = "python:"
"""``python:FILE:FACTORY`` names a library written in Python: an object with ``call(function, arguments)``."""

READ_MEMORY, WRITE_MEMORY, READ_TEXT = "read_memory", "write_memory", "read_text"
"""Functions of this process itself, for libraries that hand out addresses of their own memory.

In a call table: ``in i64, array_out``; ``in i64, array_in``; ``in i64, text_out``. They answer 0, or 1 for the address
0; any other address that is not the library's is read all the same, as in C. A simulated library has them too.
"""

_CTYPES: dict[str, Any] = {
    "i32": ctypes.c_int32,
    "u32": ctypes.c_uint32,
    "i64": ctypes.c_int64,
    "u16": ctypes.c_uint16,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}
_DYNAMIC_LIBRARY: Callable[[str], Any] = getattr(ctypes, "WinDLL", ctypes.CDLL)

_NO_BOXES = 0x8003
"""SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SEM_NOOPENFILEERRORBOX of winbase.h."""

_UNTOUCHED: dict[str, Any] = {"out": 0, "text_out": "", "array_out": None, "struct_out": []}

Signature = list[list[str]]
"""Kind and type of each parameter."""


class Block:
    """The shared memory for arrays, made by the engine."""

    def __init__(self) -> None:
        self._path = ""
        self._map: mmap.mmap | None = None

    def use(self, path: str) -> None:
        """Map another file if it is not the one mapped already."""
        if path != self._path:
            with Path(path).open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), 0)
            self._path = path

    def array(self, element: str, offset: int, count: int) -> Any:
        """Get a C array that lies in the block."""
        if self._map is None:
            raise RuntimeError("no block of shared memory was named")
        return (_CTYPES[element] * count).from_buffer(self._map, offset)


class NoSuchFunction(Exception):
    """This version of the library has no function of that name."""


class NativeLibrary:
    """A dynamic library, called through ctypes with the types of the call table."""

    def __init__(self, path: str) -> None:
        folder = Path(path).parent
        if hasattr(os, "add_dll_directory") and folder.is_absolute():
            os.add_dll_directory(str(folder))  # pyright: ignore[reportAttributeAccessIssue]
        self._library = _DYNAMIC_LIBRARY(path)

    def call(self, name: str, signature: Signature, arguments: list[Any], block: Block) -> tuple[int, list[Any]]:
        """Call a function; raises NoSuchFunction."""
        if name in {READ_MEMORY, WRITE_MEMORY, READ_TEXT}:
            return _reach_memory(name, signature[1][1], arguments, block)
        try:
            function = getattr(self._library, name)
        except AttributeError as error:
            raise NoSuchFunction(str(error)) from error
        function.restype = ctypes.c_uint32
        function.argtypes = [_argument_type(kind, element) for kind, element in signature]
        values: list[Any] = []
        results: list[Callable[[], Any]] = []
        given = iter(arguments)
        for kind, element in signature:
            value, result = _convert(kind, element, None if kind == "out" else next(given), block)
            values.append(value)
            if result is not None:
                results.append(result)
        code = function(*values)
        return code, [result() for result in results]


class PythonLibrary:
    """A library written in Python, e.g. a simulated one: the same process, pipe and block without any C."""

    def __init__(self, source: str) -> None:
        path, _, factory = source.removeprefix(PYTHON_PREFIX).rpartition(":")
        spec = importlib.util.spec_from_file_location("vendor_library", path)
        if spec is None or spec.loader is None:
            raise OSError(f"{path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._library = getattr(module, factory)()

    def call(self, name: str, signature: Signature, arguments: list[Any], block: Block) -> tuple[int, list[Any]]:
        """Call a function of the object and copy the arrays it returns into the block."""
        given = iter(arguments)
        passed: list[Any] = []
        arrays: list[Any] = []
        for kind, element in signature:
            if kind == "out":
                continue
            argument = next(given)
            if kind == "array_out":
                arrays.append(block.array(element, *argument))
                passed.append(argument[1])
            elif kind == "array_in":
                passed.append(list(block.array(element, *argument)))
            else:
                passed.append(argument)
        code, outputs = self._library.call(name, passed)
        kinds = [kind for kind, _ in signature if kind in {"out", "text_out", "array_out", "struct_out"}]
        if not outputs:
            # What a refused call leaves behind: outputs that nobody wrote.
            return code, [_UNTOUCHED[kind] for kind in kinds]
        plain: list[Any] = []
        for kind, output in zip(kinds, outputs, strict=True):
            if kind == "array_out":
                arrays.pop(0)[:] = output.tolist()
                plain.append(None)
            else:
                plain.append(list(output) if kind == "struct_out" else output)
        return code, plain


def _reach_memory(name: str, element: str, arguments: list[Any], block: Block) -> tuple[int, list[Any]]:
    """Copy from or to an address that the library gave; given with it: a place in the block, or a length of text."""
    address, size = arguments
    if name == READ_TEXT:
        return (0, [ctypes.string_at(address)[: size - 1].decode("latin-1")]) if address else (1, [""])
    array = block.array(element, *size)
    length = ctypes.sizeof(array)
    if name == WRITE_MEMORY:
        if address:
            ctypes.memmove(address, array, length)
        return int(not address), []
    if address:
        ctypes.memmove(array, address, length)
    else:
        ctypes.memset(array, 0, length)
    return int(not address), [None]


def _argument_type(kind: str, element: str) -> Any:
    if kind == "in":
        return _CTYPES[element]
    return ctypes.c_char_p if kind in {"text_in", "text_out"} else ctypes.POINTER(_CTYPES[element])


def _convert(kind: str, element: str, argument: Any, block: Block) -> tuple[Any, Callable[[], Any] | None]:
    """Make what is passed to C, and what later gives the output."""
    ctype = _CTYPES[element]
    if kind == "in":
        return ctype(argument), None
    if kind == "out":
        scalar = ctype()
        return ctypes.pointer(scalar), lambda: scalar.value
    if kind == "text_in":
        return argument.encode("utf-8"), None
    if kind == "text_out":
        text = ctypes.create_string_buffer(argument)
        return text, lambda: text.value.decode("latin-1")
    if kind == "struct_out":
        fields = (ctype * argument)(ctypes.sizeof(ctype) * argument)
        return fields, lambda: list(fields)
    array = block.array(element, *argument)
    if kind == "array_in":
        return array, None
    # A library that writes less than it says must not pass off the numbers of the call before.
    ctypes.memset(array, 0, ctypes.sizeof(array))
    return array, lambda: None


def main() -> None:
    """Serve one library until the pipe closes."""
    requests, replies = _take_pipes()
    faulthandler.enable()
    if sys.platform == "win32":
        # No box on the screen may keep a library that failed from failing, nor its process from ending.
        ctypes.WinDLL("kernel32").SetErrorMode(_NO_BOXES)
    for name in ("SIGINT", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    inbox: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    folder = sys.argv[1]
    threading.Thread(target=_read, args=(requests, inbox, folder), daemon=True).start()
    opening = inbox.get()
    if opening is None:
        return
    library = _open(opening["files"], replies)
    if library is not None:
        _serve(library, opening["functions"], inbox, replies)
        _farewell(library, opening["functions"], opening["farewell"])
    shutil.rmtree(folder, ignore_errors=True)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the pipes to the engine for ourselves, so that a library which prints or reads cannot disturb them."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, replies


def _read(requests: BinaryIO, inbox: queue.SimpleQueue[dict[str, Any] | None], folder: str) -> None:
    for line in requests:
        inbox.put(json.loads(line))
    last_resort = threading.Timer(FAREWELL_S, _leave, (folder,))
    last_resort.daemon = True
    last_resort.start()
    inbox.put(None)


def _leave(folder: str) -> None:
    """End the process although the library does not come back."""
    shutil.rmtree(folder, ignore_errors=True)
    if sys.platform == "win32":
        os.kill(os.getpid(), signal.SIGTERM)  # at once; an exit there would first ask the library that hangs
    os._exit(1)


def _open(files: list[str], replies: BinaryIO) -> NativeLibrary | PythonLibrary | None:
    tried: list[list[str]] = []
    for file in files:
        if not file.startswith(PYTHON_PREFIX) and Path(file).is_absolute() and not Path(file).is_file():
            tried.append([file, "no such file"])
            continue
        try:
            library = PythonLibrary(file) if file.startswith(PYTHON_PREFIX) else NativeLibrary(file)
        except OSError as error:
            tried.append([file, str(error)])
            continue
        _reply(replies, {"loaded": file})
        return library
    _reply(replies, {"tried": tried})
    return None


def _serve(
    library: NativeLibrary | PythonLibrary,
    functions: dict[str, Signature],
    inbox: queue.SimpleQueue[dict[str, Any] | None],
    replies: BinaryIO,
) -> None:
    block = Block()
    while (request := inbox.get()) is not None:
        if "block" in request:
            block.use(request["block"])
        name = request["call"]
        try:
            code, outputs = library.call(name, functions[name], request["arguments"], block)
        except NoSuchFunction as error:
            _reply(replies, {"missing": str(error)})
        else:
            _reply(replies, {"code": code, "outputs": outputs})


def _farewell(library: NativeLibrary | PythonLibrary, functions: dict[str, Signature], calls: list[Any]) -> None:
    for name, arguments, accepted in calls:
        code, _ = library.call(name, functions[name], arguments, Block())
        if code not in accepted:
            return


def _reply(replies: BinaryIO, message: dict[str, Any]) -> None:
    try:
        replies.write(json.dumps(message).encode() + b"\n")
        replies.flush()
    except OSError:
        # The engine is gone: a broken pipe, on Windows also an invalid argument. The reading thread has noticed it too
        # and will end the process.
        pass


if __name__ == "__main__":
    main()
