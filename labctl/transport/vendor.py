"""Calls into a vendor library that lives in a process of its own, so that its hangs and crashes stay there."""

from __future__ import annotations

import json
import logging
import mmap
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from labctl.errors import ConnectionLost, Exchange, InputError, InstrumentError, InstrumentTimeout
from labctl.job_object import JobObject, job_with
from labctl.processes import start_apart, status_text
from labctl.transport import vendor_host
from labctl.transport.call_table import DTYPES, ITEM_SIZES, check_call, parameters_of
from labctl.transport.settings import LibrarySettings, Parameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from labctl.transport.session import OpenRequest

log = logging.getLogger(__name__)

_LOADING_TIMEOUT_S = 60.0
_KILL_TIMEOUT_S = 2.0
_FIRST_BLOCK_BYTES = 1 << 16
_ALIGNMENT = 64
_COMPLAINT_LENGTH = 2000


def open_library(request: OpenRequest) -> VendorHost:
    """Open ``sdk:NAME``: NAME is a library file, or any label for the files that the driver knows of.

    Raises InputError when there is nothing to try, ConnectionLost when no file can be loaded.
    """
    settings = request.settings
    if not isinstance(settings, LibrarySettings):
        raise InputError(f"{request.driver} has no vendor library", where=f"instruments.{request.role}.resource")
    return VendorHost(settings, library_files(settings, request.resource), name=f"{request.role}, {request.resource}")


def library_files(settings: LibrarySettings, resource: str) -> tuple[str, ...]:
    """Get the files to try for an ``sdk:`` resource, in order."""
    name = resource.partition(":")[2]
    if "/" in name or "\\" in name or name.lower().endswith((".dll", ".so")):
        path = Path(name).expanduser()
        if not path.is_file():
            raise InputError(
                f"the library file {name} does not exist",
                where=resource,
                todo=f"correct the path, or write sdk:{settings.name.split()[0].lower()} for the usual places",
            )
        return (str(path.resolve()),)
    files = settings.files.get(sys.platform, ())
    if not files:
        raise InputError(
            f"{settings.name} does not exist for {sys.platform}",
            where=resource,
            todo=f"use a computer with {' or '.join(settings.files)}, or sim: for the simulated library",
        )
    return tuple(files)


class ArrayPlace(NamedTuple):
    """Where an array lies in the shared memory: C type, offset in bytes, number of elements."""

    type: str
    offset: int
    count: int


class SharedBlock:
    """Memory that this process and the library's process map; a file, made anew when it must grow.

    Not ``multiprocessing.shared_memory``: up to Python 3.12 the exit of either process would remove it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._map: mmap.mmap | None = None
        self._made = 0

    def reserve(self, size: int) -> str:
        """Have at least ``size`` bytes; returns the file to map."""
        if self._map is None or len(self._map) < size:
            self.close()
            self._made += 1
            with self._file.open("w+b") as file:
                file.truncate(max(_FIRST_BLOCK_BYTES, 1 << (size - 1).bit_length()))
                self._map = mmap.mmap(file.fileno(), 0)
        return str(self._file)

    def write(self, place: ArrayPlace, values: Any) -> None:
        """Put numbers into their place."""
        import numpy as np

        self._view(place)[:] = np.asarray(values, dtype=DTYPES[place.type])

    def read(self, place: ArrayPlace) -> NDArray[Any]:
        """Get a copy: the next call writes here again, and memory with a view on it cannot be given back."""
        return self._view(place).copy()

    def close(self) -> None:
        """Give the memory back."""
        if self._map is not None:
            self._map.close()
            self._map = None

    @property
    def _file(self) -> Path:
        return self._folder / f"block-{self._made}"

    def _view(self, place: ArrayPlace) -> NDArray[Any]:
        import numpy as np

        if self._map is None:
            raise ConnectionLost("the memory shared with the library was given back during a call")
        return np.frombuffer(self._map, dtype=DTYPES[place.type], count=place.count, offset=place.offset)


class VendorHost:
    """A :class:`labctl.transport.link.LibraryChannel` over a child process that holds the library.

    The process belongs to this object: :meth:`close` ends it, a call that does not come back in time has it killed
    with all that the library started, and it ends by itself when this process dies: not at once, because a camera
    whose library was never shut down may stay blocked, but once its farewell is said. A thread of this process reads
    its replies and so notices its death at once; the thread ends with the process. Calls are serialised, as vendor
    libraries are not thread-safe.

    Scalars and text travel as JSON. Arrays lie in a file that both processes map; the library writes into it, and
    they are copied once, out of it.

    :param settings: Call table.
    :param files: Library files to try in order.
    :param name: Role and resource, for messages.
    """

    def __init__(self, settings: LibrarySettings, files: Sequence[str], name: str = "") -> None:
        self.settings = settings
        self.name = name or settings.name
        self._lock = threading.Lock()
        self._last = Exchange()
        self._folder = Path(tempfile.mkdtemp(prefix="labctl-"))
        self._complaints = self._folder / "stderr"
        self._block = SharedBlock(self._folder)
        self._ended = ""
        self._job: JobObject | None = None
        self._replies: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        try:
            self._process = self._start()
            self._load(files)
        except BaseException:
            self.close()
            raise

    @property
    def last(self) -> Exchange:
        """Get the last call and what came back."""
        return self._last

    @property
    def process_id(self) -> int:
        """Get the id of the process that holds the library."""
        return self._process.pid

    def call(self, function: str, *arguments: Any, timeout_s: float | None = None) -> tuple[int, list[Any]]:
        """Call a function of the call table; returns its code and its outputs, arrays as NumPy arrays.

        Raises InputError for arguments that do not fit the call table, InstrumentTimeout when the call does not come
        back (the process is killed then), ConnectionLost when the process has died, InstrumentError when this version
        of the library has no such function.
        """
        check_call(self.settings, function, arguments)
        patience_s = self.settings.timeout_s if timeout_s is None else timeout_s
        exchange = Exchange(f"{function}({', '.join(map(repr, arguments))})")
        if not self._lock.acquire(timeout=patience_s):
            raise InstrumentTimeout("another call kept the library for too long", exchange=exchange, where=self.name)
        try:
            self._last = exchange
            parameters = parameters_of(self.settings, function)
            request, arrays = self._request(function, parameters, arguments)
            reply = self._ask(request, patience_s)
            if "missing" in reply:
                raise InstrumentError(
                    f"this version of {self.settings.name} has no function {function}",
                    exchange=Exchange(exchange.sent, reply["missing"]),
                    where=self.name,
                    state="nothing was called",
                    todo="install a newer version of the vendor's library",
                )
            self._last = Exchange(exchange.sent, str(reply["code"]))
            return reply["code"], self._outputs(parameters, reply["outputs"], arrays)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Let the process say farewell to the library and end; it is killed if it does not. May be called twice."""
        process = getattr(self, "_process", None)
        if process is not None and process.poll() is None:
            self._ended = self._ended or "it was closed"
            try:
                process.stdin.close()
            except OSError:
                pass
            try:
                process.wait(vendor_host.FAREWELL_S + _KILL_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._kill()
        if process is not None and process.poll() is not None:
            self._reader.join(_KILL_TIMEOUT_S)
            for pipe in (process.stdin, process.stdout):
                try:
                    pipe.close()
                except OSError:  # what could not be sent is still in its buffer
                    pass
        if self._job is not None:
            self._job.close()
        self._block.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in the terminal is for the engine, which then calls the library to stop.
        with self._complaints.open("wb") as complaints:
            process = start_apart(
                [sys.executable, "-I", "-B", "-X", "utf8", vendor_host.__file__, str(self._folder)],
                risk=f"if this process dies, {self.settings.name} is not shut down",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
            )
        self._job = _job_of(process.pid)
        self._reader = threading.Thread(
            target=self._read, args=(process,), name=f"replies of {self.settings.name}", daemon=True
        )
        self._reader.start()
        return process

    def _load(self, files: Sequence[str]) -> None:
        functions = {
            name: [[parameter.kind, parameter.type] for parameter in parameters]
            for name, parameters in self.settings.functions.items()
        }
        self._last = Exchange(f"load {', '.join(files)}")
        opening = {
            "files": list(files),
            "functions": functions,
            "farewell": self.settings.farewell,
        }
        reply = self._ask(opening, _LOADING_TIMEOUT_S)
        if "tried" in reply:
            tried = "; ".join(f"{file} ({why})" for file, why in reply["tried"])
            self._last = Exchange(self._last.sent)
            raise ConnectionLost(
                f"{self.settings.name} could not be loaded; tried {tried}",
                where=self.name,
                state="no library was loaded",
                todo="install the vendor's library, or write its file as sdk:/path/to/file",
            )
        log.info("%s: loaded %s in process %d", self.name, reply["loaded"], self._process.pid)

    def _request(
        self, function: str, parameters: Sequence[Parameter], arguments: Sequence[Any]
    ) -> tuple[dict[str, Any], list[ArrayPlace]]:
        """Make the request and put the given arrays in place; returns also the places of those that come back."""
        end = 0
        given: list[Any] = []
        returned: list[ArrayPlace] = []
        filled: list[tuple[ArrayPlace, Any]] = []
        values = iter(arguments)
        for parameter in parameters:
            if parameter.kind == "out":
                continue
            argument = next(values)
            if parameter.kind == "array_out":
                returned.append(ArrayPlace(parameter.type, end, argument))
            elif parameter.kind == "array_in":
                filled.append((ArrayPlace(parameter.type, end, len(argument)), argument))
            if parameter.kind in {"array_in", "array_out"}:
                count = argument if parameter.kind == "array_out" else len(argument)
                argument = [end, count]
                end += -(-count * ITEM_SIZES[parameter.type] // _ALIGNMENT) * _ALIGNMENT
            given.append(argument)
        request: dict[str, Any] = {"call": function, "arguments": given}
        if end:
            request["block"] = self._block.reserve(end)
            for place, content in filled:
                self._block.write(place, content)
        return request, returned

    def _outputs(
        self, parameters: Sequence[Parameter], outputs: Sequence[Any], arrays: Sequence[ArrayPlace]
    ) -> list[Any]:
        kinds = [p.kind for p in parameters if p.kind in {"out", "text_out", "array_out", "struct_out"}]
        places = iter(arrays)
        return [
            self._block.read(next(places)) if kind == "array_out" else output
            for kind, output in zip(kinds, outputs, strict=True)
        ]

    def _ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        if self._ended:
            raise self._lost()
        try:
            stdin = self._process.stdin
            if stdin is None:
                raise OSError("the pipe is closed")
            stdin.write(json.dumps(request, allow_nan=False).encode() + b"\n")
            stdin.flush()
        except (OSError, ValueError):
            raise self._lost() from None
        try:
            reply = self._replies.get(timeout=timeout_s)
        except queue.Empty:
            self._kill()
            self._ended = f"{self._last.sent} hung, and its process was killed"
            raise InstrumentTimeout(
                f"a call into {self.settings.name} did not come back within {timeout_s:g} s",
                exchange=self._last,
                where=self.name,
                state="the process of the library was killed; the device is left as it was",
                todo="switch the device off and on, then open the bench again",
            ) from None
        if reply is None:
            raise self._lost()
        return reply

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Take replies until the process ends; runs in a thread of its own."""
        if process.stdout is not None:
            for line in process.stdout:
                self._replies.put(json.loads(line))
        code = process.wait()
        if not self._ended:
            self._ended = f"its process {_how_it_ended(code)}"
            log.error("%s: %s %s", self.name, self.settings.name, self._ended)
        self._replies.put(None)

    def _kill(self) -> None:
        self._ended = self._ended or "its process was killed"
        if self._job is not None:
            try:
                self._job.terminate()
            except OSError as error:
                log.warning("%s: %s", self.name, error)
        self._process.kill()
        try:
            self._process.wait(_KILL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            log.error("%s: process %d cannot be killed, it waits inside a device driver", self.name, self.process_id)

    def _lost(self) -> ConnectionLost:
        if not self._ended:
            self._reader.join(_KILL_TIMEOUT_S)  # it is about to say how the process ended
        complaint = ""
        if self._complaints.is_file():
            complaint = self._complaints.read_text(encoding="utf-8", errors="replace").strip()[-_COMPLAINT_LENGTH:]
        return ConnectionLost(
            f"{self.settings.name} is gone: {self._ended or 'its process ended'}"
            + (f"; it said: {complaint}" if complaint else ""),
            exchange=self._last,
            where=self.name,
            state="the device is left as it was",
            todo="open the bench again; a device that then does not answer wants to be switched off and on",
        )


def _how_it_ended(code: int, platform: str = os.name) -> str:
    if platform == "posix" and code < 0:
        number, _, name = status_text(code).partition(", ")
        return f"was ended by {name or f'signal {-int(number)}'}"
    return f"ended with exit code {status_text(code, platform)}"


def _job_of(process_id: int, platform: str = os.name, kernel: Any = None) -> JobObject | None:
    """Put the process into a job, to end it with all that the library starts; None on POSIX or where it is refused."""
    if platform == "posix":
        return None
    try:
        return job_with(process_id, kill_on_close=False, kernel=kernel)
    except OSError as error:
        log.warning("%s; only process %d itself can be ended", error, process_id)
        return None
