"""The process for vendor libraries, with the C library of the system as the foreign library."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.clock import RealClock
from labctl.errors import ConnectionLost, InputError, InstrumentError, InstrumentTimeout
from labctl.transport import vendor
from labctl.transport.opening import open_link
from labctl.transport.session import OpenRequest, Session
from labctl.transport.settings import LibrarySettings, Parameter, WireSettings
from labctl.transport.vendor import VendorHost, library_files

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="uses libc.so.6 as the foreign library")

SIZE = Parameter("in", "i64")
LIBC = LibrarySettings(
    name="C library",
    files={"linux": ("/nowhere/libc-not-here.so", "libc.so.6")},
    functions={
        "abs": (Parameter("in"),),
        "sleep": (Parameter("in", "u32"),),
        "abort": (),
        "_exit": (Parameter("in"),),
        "puts": (Parameter("text_in"),),
        "strncpy": (Parameter("text_out"), Parameter("text_in"), SIZE),
        "memcpy": (Parameter("array_out", "i32"), Parameter("array_in", "i32"), SIZE),
        "memmove": (Parameter("array_out", "f64"), Parameter("array_in", "f64"), SIZE),
        "modff": (Parameter("in", "f32"), Parameter("out", "f32")),
        "memset": (Parameter("struct_out", "u32"), Parameter("in"), SIZE),
        "no_such_function": (),
        "asprintf": (Parameter("out", "i64"), Parameter("text_in")),
        "read_memory": (Parameter("in", "i64"), Parameter("array_out", "u16")),
        "write_memory": (Parameter("in", "i64"), Parameter("array_in", "u16")),
        "read_text": (Parameter("in", "i64"), Parameter("text_out")),
    },
    timeout_s=10.0,
)


@pytest.fixture
def libc() -> Iterator[VendorHost]:
    host = VendorHost(LIBC, LIBC.files["linux"], name="detector, sdk:libc")
    yield host
    host.close()


def gone(process_id: int) -> bool:
    """Whether a process has ended, as the kernel sees it (a zombie has)."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(process_id: int) -> bool:
    for _ in range(1000):
        if gone(process_id):
            return True
        time.sleep(0.01)
    return False


def test_scalars_text_and_arrays_go_both_ways(libc: VendorHost) -> None:
    assert libc.call("abs", -7) == (7, [])
    assert libc.call("strncpy", 64, "Andor", 64)[1] == ["Andor"]
    assert libc.call("modff", 2.75)[1] == [2.0]
    values = np.arange(-5, 5, dtype=np.int32)
    assert np.array_equal(libc.call("memcpy", 10, values, 40)[1][0], values)
    floats = libc.call("memmove", 3, [0.1, -1e300, 5e-324], 24)[1][0]
    assert floats.dtype == np.float64 and floats.tolist() == [0.1, -1e300, 5e-324]


def test_a_structure_holds_its_size_on_entry(libc: VendorHost) -> None:
    # memset leaves the rest of the structure alone: 0 bytes written, so what we see is what the library was given
    assert libc.call("memset", 13, 0, 0)[1] == [[52, *[0] * 12]]


def test_memory_of_the_library_is_read_and_written_where_it_says(libc: VendorHost) -> None:
    length, (address,) = libc.call("asprintf", "PIXIS 100F")
    assert length == 10 and address > 1 << 32
    assert libc.call("read_text", address, 64) == (0, ["PIXIS 100F"])
    assert libc.call("read_text", address, 6) == (0, ["PIXIS"])
    code, (words,) = libc.call("read_memory", address, 5)
    assert code == 0 and words.tobytes() == b"PIXIS 100F"
    assert libc.call("write_memory", address + 6, np.frombuffer(b"400B", dtype="<u2")) == (0, [])
    assert libc.call("read_text", address, 64) == (0, ["PIXIS 400B"])


def test_the_address_zero_is_refused(libc: VendorHost) -> None:
    code, (words,) = libc.call("read_memory", 0, 3)
    assert code == 1 and words.tolist() == [0, 0, 0]
    assert libc.call("write_memory", 0, [1, 2])[0] == 1
    assert libc.call("read_text", 0, 64) == (1, [""])


def test_arrays_survive_the_next_call_and_a_larger_block(libc: VendorHost) -> None:
    first = libc.call("memcpy", 4, [1, 2, 3, 4], 16)[1][0]
    large = np.arange(3_000_000, dtype=np.int32)
    assert np.array_equal(libc.call("memcpy", large.size, large, large.nbytes)[1][0], large)
    libc.call("memcpy", 4, [9, 9, 9, 9], 16)
    assert first.tolist() == [1, 2, 3, 4]


def test_an_array_that_the_library_does_not_fill_is_zero(libc: VendorHost) -> None:
    libc.call("memcpy", 4, [1, 2, 3, 4], 16)
    assert libc.call("memcpy", 4, [5, 6, 7, 8], 8)[1][0].tolist() == [5, 6, 0, 0]


def test_what_the_library_prints_does_not_disturb_the_pipe(libc: VendorHost) -> None:
    for _ in range(3):
        libc.call("puts", '{"code": 20002, "outputs": []}')
    assert libc.call("abs", -3) == (3, [])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(number=st.integers(-(2**40), 2**40))
def test_integers_are_passed_whole_or_refused(libc: VendorHost, number: int) -> None:
    if -(2**31) <= number < 2**31:
        if number != -(2**31):
            assert libc.call("abs", number)[0] == abs(number)
    else:
        with pytest.raises(InputError, match="i32"):
            libc.call("abs", number)


@pytest.mark.parametrize(
    ("function", "arguments", "complaint"),
    [
        ("abs", (), "takes 1 argument"),
        ("abs", (1, 2), "takes 1 argument"),
        ("abs", (1.0,), "integer"),
        ("abs", (True,), "integer"),
        ("sleep", (-1,), "u32"),
        ("modff", (float("nan"),), "finite"),
        ("modff", (1e39,), "too large"),
        ("puts", ("a\0b",), "printable"),
        ("puts", (3,), "text"),
        ("memcpy", (0, [1], 4), "buffer"),
        ("memcpy", (1, [], 4), "sequence"),
        ("memcpy", (1, [2**31], 4), "i32"),
        ("strlen", ("x",), "no function 'strlen'"),
    ],
)
def test_a_bad_call_is_refused_before_the_library_sees_it(
    libc: VendorHost, function: str, arguments: tuple[object, ...], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        libc.call(function, *arguments)
    assert libc.call("abs", -1) == (1, [])


def test_a_function_that_this_version_lacks_is_named(libc: VendorHost) -> None:
    with pytest.raises(InstrumentError, match="no function no_such_function"):
        libc.call("no_such_function")
    assert libc.call("abs", -1) == (1, [])


def test_a_call_that_hangs_is_killed(libc: VendorHost) -> None:
    with pytest.raises(InstrumentTimeout, match="did not come back") as caught:
        libc.call("sleep", 1000, timeout_s=0.2)
    assert caught.value.exchange.sent == "sleep(1000)"
    assert gone(libc.process_id)
    with pytest.raises(ConnectionLost, match=r"sleep\(1000\) hung"):
        libc.call("abs", -1)


@pytest.mark.parametrize(("function", "arguments", "how"), [("abort", (), "SIGABRT"), ("_exit", (3,), "exit code 3")])
def test_a_library_that_ends_its_process_is_noticed(
    libc: VendorHost, function: str, arguments: tuple[int, ...], how: str
) -> None:
    with pytest.raises(ConnectionLost, match=how):
        libc.call(function, *arguments)
    with pytest.raises(ConnectionLost, match=how):
        libc.call("abs", -1)


def test_the_words_of_a_dying_library_are_kept(libc: VendorHost) -> None:
    with pytest.raises(ConnectionLost, match="Fatal Python error: Aborted"):
        libc.call("abort")


def test_a_process_that_dies_between_calls_is_noticed(libc: VendorHost) -> None:
    os.kill(libc.process_id, signal.SIGKILL)
    with pytest.raises(ConnectionLost, match="SIGKILL"):
        libc.call("abs", -1)


def test_a_second_thread_waits_its_turn_and_no_longer_than_it_wants(libc: VendorHost) -> None:
    started = threading.Event()

    def slow() -> None:
        started.set()
        libc.call("sleep", 1)

    thread = threading.Thread(target=slow)
    thread.start()
    started.wait(5)
    time.sleep(0.2)
    with pytest.raises(InstrumentTimeout, match="another call"):
        libc.call("abs", -1, timeout_s=0.05)
    assert libc.call("abs", -2) == (2, [])
    thread.join()


def test_closing_ends_the_process_and_leaves_no_files(libc: VendorHost) -> None:
    libc.call("memcpy", 1, [1], 4)
    folder = libc._folder
    assert folder.is_dir()
    libc.close()
    libc.close()
    assert gone(libc.process_id) and not folder.exists()
    with pytest.raises(ConnectionLost, match="closed"):
        libc.call("abs", -1)


ORPHAN = """
import sys
from labctl.transport.settings import LibrarySettings, Parameter
from labctl.transport.vendor import VendorHost
table = LibrarySettings("C library", {}, {"sleep": (Parameter("in", "u32"),), "_exit": (Parameter("in"),)})
host = VendorHost(table, ["libc.so.6"])
print(host.process_id, host._folder, flush=True)
if "hang" in sys.argv:
    host.call("sleep", 1000)
sys.stdin.read()
"""


@pytest.mark.parametrize("state", ["idle", pytest.param("hang", marks=pytest.mark.slow)])
def test_the_process_ends_when_the_engine_is_killed(state: str) -> None:
    command = [sys.executable, "-c", ORPHAN, state]
    engine = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert engine.stdin is not None and engine.stdout is not None
    process_id, folder = engine.stdout.readline().split()
    assert not gone(int(process_id))
    time.sleep(0.5)
    engine.kill()
    engine.wait()
    engine.stdin.close()
    engine.stdout.close()
    assert wait_until_gone(int(process_id))  # at once if idle, after FAREWELL_S if the library hangs
    assert not Path(folder).exists()


DIARY = """
from pathlib import Path

class Library:
    def call(self, function, arguments):
        with Path(__file__).with_suffix(".diary").open("a") as diary:
            diary.write(f"{function}{tuple(arguments)}\\n")
        return (0, []) if function != "refuse" else (1, [])
"""


@pytest.mark.parametrize(
    ("farewell", "made"),
    [
        (("stop", "keep_cold", "shut_down"), ["stop()", "keep_cold(1,)", "shut_down()"]),
        (("stop", "refuse", "shut_down"), ["stop()", "refuse()"]),
    ],
)
def test_a_dying_engine_has_the_library_shut_down(tmp_path: Path, farewell: tuple[str, ...], made: list[str]) -> None:
    library = tmp_path / "library.py"
    library.write_text(DIARY)
    functions = {"stop": (), "keep_cold": (Parameter("in"),), "refuse": (), "shut_down": ()}
    calls = tuple((name, (1,) if functions[name] else (), (0,)) for name in farewell)
    table = LibrarySettings("diary", {}, functions, farewell=calls)
    host = VendorHost(table, [f"python:{library}:Library"])
    assert host._process.stdin is not None
    # What the end of this process does: the pipe closes without a word.
    host._process.stdin.close()
    assert wait_until_gone(host.process_id)
    assert library.with_suffix(".diary").read_text().splitlines() == made
    host.close()


class Job:
    """The job object of a host, as on Windows."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def terminate(self) -> None:
        self.asked.append("terminate")

    def close(self) -> None:
        self.asked.append("close")


def test_a_library_that_hangs_is_ended_by_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job()
    monkeypatch.setattr(vendor, "_job_of", lambda process_id: job)
    host = VendorHost(LIBC, LIBC.files["linux"])
    with pytest.raises(InstrumentTimeout):
        host.call("sleep", 60, timeout_s=0.2)
    host.close()
    assert job.asked == ["terminate", "close"]


def test_a_host_in_no_job_works_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    class Kernel:
        def CreateJobObjectW(self, security: None, name: None) -> int:
            return 0

    assert vendor._job_of(99, "nt", Kernel()) is None
    assert "only process 99" in caplog.text
    assert vendor._job_of(99, "posix", None) is None


@pytest.mark.parametrize(
    ("code", "platform", "said"),
    [
        (3, "posix", "ended with exit code 3"),
        (-6, "posix", "was ended by SIGABRT"),
        (-99, "posix", "was ended by signal 99"),
        (0xC0000005, "nt", "ended with exit code 0xC0000005, access violation"),
        (1, "nt", "ended with exit code 1"),
    ],
)
def test_how_the_process_of_a_library_ended(code: int, platform: str, said: str) -> None:
    assert vendor._how_it_ended(code, platform) == said


def test_ctrl_c_in_the_terminal_does_not_reach_the_library(libc: VendorHost) -> None:
    assert os.getpgid(libc.process_id) != os.getpgid(0)
    os.kill(libc.process_id, signal.SIGINT)
    assert libc.call("abs", -5) == (5, [])


def test_a_library_that_cannot_be_loaded_is_told_with_all_that_was_tried() -> None:
    with pytest.raises(ConnectionLost, match="no such file") as caught:
        VendorHost(LIBC, ("/nowhere/a.so", "no-such-library.so", __file__))
    for name in ("/nowhere/a.so", "no-such-library.so", __file__):
        assert name in str(caught.value)


def request_for(resource: str, link: LibrarySettings | WireSettings = LIBC) -> OpenRequest:
    return OpenRequest("detector", "some-driver", resource, link, {}, Session("bench", RealClock()))


def test_opening_by_resource_name() -> None:
    host = open_link(request_for("sdk:libc"))
    assert isinstance(host, VendorHost)
    assert host.call("abs", -4) == (4, [])
    host.close()


def test_a_file_that_does_not_exist_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"/nowhere/libandor.so does not exist"):
        open_link(request_for("sdk:/nowhere/libandor.so"))


def test_a_wire_driver_has_no_library() -> None:
    with pytest.raises(InputError, match="no vendor library"):
        open_link(request_for("sdk:libc", WireSettings()))


def test_a_platform_without_the_library_is_an_input_error() -> None:
    with pytest.raises(InputError, match="does not exist for"):
        library_files(LibrarySettings("Vendor", {"nowhere": ("x.so",)}, {}), "sdk:vendor")
