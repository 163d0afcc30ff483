"""Job objects: the layout of what Windows is given, and what is asked of it in which order."""

from __future__ import annotations

import ctypes
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from labctl import job_object
from labctl.job_object import BasicLimits, ExtendedLimits, IoCounters, JobObject, bind_children, job_with

HANDLE, PROCESS = 0x1234, 0x5678


class Kernel:
    """kernel32 that writes down what it is asked, and refuses what it is told to."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        def function(*arguments: Any) -> int:
            if name == "SetInformationJobObject":
                limits = ctypes.cast(arguments[2], ctypes.POINTER(ExtendedLimits)).contents
                arguments = (*arguments[:2], limits.basic.limit_flags, arguments[3])
            self.asked.append((name, arguments))
            if name in self.refused:
                return 0
            return {"CreateJobObjectW": HANDLE, "OpenProcess": PROCESS}.get(name, 1)

        return function


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_void_p) != 8, reason="the layout on 64 bit")
def test_the_layout_is_that_of_winnt_h() -> None:
    assert (ctypes.sizeof(BasicLimits), ctypes.sizeof(IoCounters), ctypes.sizeof(ExtendedLimits)) == (64, 48, 144)
    offsets = {name: getattr(BasicLimits, name).offset for name, *_ in BasicLimits._fields_}
    assert list(offsets.values()) == [0, 8, 16, 24, 32, 40, 48, 56, 60]
    assert offsets["limit_flags"] == 16
    extended = {name: getattr(ExtendedLimits, name).offset for name, *_ in ExtendedLimits._fields_}
    assert list(extended.values()) == [0, 64, 112, 120, 128, 136]


def test_a_job_that_ends_with_its_maker() -> None:
    kernel = Kernel()
    job = job_with(99, kill_on_close=True, kernel=kernel)
    assert kernel.asked == [
        ("CreateJobObjectW", (None, None)),
        ("SetInformationJobObject", (HANDLE, 9, 0x2800, ctypes.sizeof(ExtendedLimits))),
        ("OpenProcess", (0x0101, False, 99)),
        ("AssignProcessToJobObject", (HANDLE, PROCESS)),
        ("CloseHandle", (PROCESS,)),
    ]
    job.close()
    job.close()
    assert kernel.asked[5:] == [("CloseHandle", (HANDLE,))]


def test_a_job_that_outlives_its_maker() -> None:
    kernel = Kernel()
    job = JobObject(kill_on_close=False, kernel=kernel)
    job.terminate()
    assert kernel.asked[1:] == [
        ("SetInformationJobObject", (HANDLE, 9, 0x0800, ctypes.sizeof(ExtendedLimits))),
        ("TerminateJobObject", (HANDLE, 1)),
    ]


@pytest.mark.parametrize(
    ("refused", "closed"),
    [
        ("CreateJobObjectW", []),
        ("SetInformationJobObject", [HANDLE]),
        ("OpenProcess", [HANDLE]),
        ("AssignProcessToJobObject", [PROCESS, HANDLE]),
    ],
)
def test_what_windows_refuses_is_said_and_leaves_no_handle(refused: str, closed: list[int]) -> None:
    kernel = Kernel(refused)
    with pytest.raises(OSError, match=f"Windows refuses {refused.removesuffix('W')} "):
        job_with(99, kill_on_close=True, kernel=kernel)
    assert [arguments[0] for name, arguments in kernel.asked if name == "CloseHandle"] == closed


def test_a_job_that_cannot_be_terminated() -> None:
    with pytest.raises(OSError, match="TerminateJobObject"):
        JobObject(kill_on_close=False, kernel=Kernel("TerminateJobObject")).terminate()


def test_a_process_enters_one_job_for_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_object, "_mine", [])
    kernel = Kernel()
    assert bind_children("nt", kernel) == ""
    assert ("OpenProcess", (0x0101, False, os.getpid())) in kernel.asked
    asked = len(kernel.asked)
    assert bind_children("nt", kernel) == ""
    assert len(kernel.asked) == asked, "once is enough, and the handle is kept"


def test_a_process_that_may_enter_no_job_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_object, "_mine", [])
    assert "AssignProcessToJobObject" in bind_children("nt", Kernel("AssignProcessToJobObject"))
    assert job_object._mine == []


@pytest.mark.skipif(sys.platform == "win32", reason="there it would bind this process")
def test_there_are_no_jobs_on_posix() -> None:
    kernel = Kernel()
    assert bind_children(kernel=kernel) == ""
    assert kernel.asked == []


def test_the_functions_of_kernel32_know_handles_as_wide_as_a_pointer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handle passed without a type would be cut to 32 bit."""

    class Library:
        def __getattr__(self, name: str) -> Any:
            function = SimpleNamespace()
            setattr(self, name, function)
            return function

    def load(name: str, use_last_error: bool) -> Library:
        assert (name, use_last_error) == ("kernel32", True)
        return Library()

    monkeypatch.setattr(ctypes, "WinDLL", load, raising=False)
    kernel: Any = job_object.kernel32()
    assert {kernel.CreateJobObjectW.restype, kernel.OpenProcess.restype} == {ctypes.c_void_p}
    assert kernel.AssignProcessToJobObject.argtypes == (ctypes.c_void_p, ctypes.c_void_p)
    assert kernel.TerminateJobObject.argtypes == (ctypes.c_void_p, ctypes.c_uint32)
    assert kernel.CloseHandle.argtypes == (ctypes.c_void_p,)
    assert kernel.SetInformationJobObject.argtypes == (
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_uint32,
    )
