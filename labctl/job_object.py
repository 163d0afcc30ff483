"""Job objects of Windows: what a process group is on POSIX, and more.

On Windows neither does a process die with its parent, nor does killing one kill its children. A job holds processes
and all that they start; it can be terminated as one, or made to end with the last handle on it.

Standard library only: the guard loads this file by its name. The layout of the structures is that of winnt.h on 64 bit.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False  # see labctl.processes
if TYPE_CHECKING:
    from typing import Any

BREAKAWAY_OK = 0x00000800
KILL_ON_JOB_CLOSE = 0x00002000
EXTENDED_LIMIT_INFORMATION = 9
_PROCESS_TERMINATE = 0x0001
_PROCESS_SET_QUOTA = 0x0100
_EXIT_CODE = 1


class BasicLimits(ctypes.Structure):
    """JOBOBJECT_BASIC_LIMIT_INFORMATION."""

    _fields_ = (
        ("per_process_user_time_limit", ctypes.c_int64),
        ("per_job_user_time_limit", ctypes.c_int64),
        ("limit_flags", ctypes.c_uint32),
        ("minimum_working_set_size", ctypes.c_size_t),
        ("maximum_working_set_size", ctypes.c_size_t),
        ("active_process_limit", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("priority_class", ctypes.c_uint32),
        ("scheduling_class", ctypes.c_uint32),
    )


class IoCounters(ctypes.Structure):
    """IO_COUNTERS."""

    _fields_ = (
        ("read_operation_count", ctypes.c_uint64),
        ("write_operation_count", ctypes.c_uint64),
        ("other_operation_count", ctypes.c_uint64),
        ("read_transfer_count", ctypes.c_uint64),
        ("write_transfer_count", ctypes.c_uint64),
        ("other_transfer_count", ctypes.c_uint64),
    )


class ExtendedLimits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

    _fields_ = (
        ("basic", BasicLimits),
        ("io", IoCounters),
        ("process_memory_limit", ctypes.c_size_t),
        ("job_memory_limit", ctypes.c_size_t),
        ("peak_process_memory_used", ctypes.c_size_t),
        ("peak_job_memory_used", ctypes.c_size_t),
    )


class JobObject:
    """A job without a name; no child inherits its handle. Who is started apart (labctl.processes) is let out of it.

    :param kill_on_close: Whether its processes end with the last handle on it, i.e. with the process that made it.
        Otherwise they go on.
    :param kernel: Functions of kernel32, if they are not to be those of this system.
    :raises OSError: If Windows refuses.
    """

    def __init__(self, *, kill_on_close: bool, kernel: Any = None) -> None:
        self._kernel = kernel32() if kernel is None else kernel
        self._handle: int | None = self._kernel.CreateJobObjectW(None, None)
        if not self._handle:
            raise refused("CreateJobObject")
        limits = ExtendedLimits()
        limits.basic.limit_flags = BREAKAWAY_OK | (KILL_ON_JOB_CLOSE if kill_on_close else 0)
        size = ctypes.sizeof(limits)
        if not self._kernel.SetInformationJobObject(
            self._handle, EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), size
        ):
            error = refused("SetInformationJobObject")
            self.close()
            raise error

    def take(self, process_id: int) -> None:
        """Put a process into the job, with all that it starts from now on; raises OSError if Windows refuses.

        The caller holds a handle on the process, so that its id cannot be another's meanwhile.
        """
        process = self._kernel.OpenProcess(_PROCESS_SET_QUOTA | _PROCESS_TERMINATE, False, process_id)
        if not process:
            raise refused("OpenProcess")
        try:
            if not self._kernel.AssignProcessToJobObject(self._handle, process):
                raise refused("AssignProcessToJobObject")
        finally:
            self._kernel.CloseHandle(process)

    def terminate(self) -> None:
        """End every process in the job at once; raises OSError if Windows refuses."""
        if not self._kernel.TerminateJobObject(self._handle, _EXIT_CODE):
            raise refused("TerminateJobObject")

    def close(self) -> None:
        """Give the handle back."""
        handle, self._handle = self._handle, None
        if handle:
            self._kernel.CloseHandle(handle)


def kernel32() -> Any:
    """Load the functions of kernel32 that a job needs, with their types: a handle is as wide as a pointer."""
    library: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # pyright: ignore[reportAttributeAccessIssue]
    handle, flag, number = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32
    for name, result, parameters in (
        ("CreateJobObjectW", handle, (ctypes.c_void_p, ctypes.c_wchar_p)),
        ("SetInformationJobObject", flag, (handle, ctypes.c_int, ctypes.c_void_p, number)),
        ("OpenProcess", handle, (number, flag, number)),
        ("AssignProcessToJobObject", flag, (handle, handle)),
        ("TerminateJobObject", flag, (handle, number)),
        ("CloseHandle", flag, (handle,)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, parameters
    return library


def refused(function: str) -> OSError:
    """Make the error that tells what Windows refused."""
    code = getattr(ctypes, "get_last_error", lambda: 0)()
    return OSError(f"Windows refuses {function} (error {code})")


def job_with(process_id: int, *, kill_on_close: bool, kernel: Any = None) -> JobObject:
    """Make a job that holds a process; raises OSError if Windows refuses."""
    job = JobObject(kill_on_close=kill_on_close, kernel=kernel)
    try:
        job.take(process_id)
    except OSError:
        job.close()
        raise
    return job


_mine: list[JobObject] = []


def bind_children(platform: str = os.name, kernel: Any = None) -> str:
    """Have what this process starts from now on die with it; returns why that cannot be, or an empty text.

    This process enters a job that ends with its only handle, and that handle is this process's own: no child can be
    started before it is in the job. Only what is started apart is let out. Nothing is done on POSIX.
    """
    if platform == "posix" or _mine:
        return ""
    try:
        _mine.append(job_with(os.getpid(), kill_on_close=True, kernel=kernel))
    except OSError as error:
        return str(error)
    return ""
