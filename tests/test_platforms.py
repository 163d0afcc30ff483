"""What only Linux or only Windows has is used behind a question for the platform; every text has its encoding."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for package in ("labctl", "drivers", "procedures") for path in (ROOT / package).rglob("*.py"))
POSIX_MODULES = {
    "crypt",
    "curses",
    "fcntl",
    "grp",
    "posix",
    "pty",
    "pwd",
    "readline",
    "resource",
    "syslog",
    "termios",
    "tty",
}
POSIX_NAMES = {
    "os": """chown chroot fchmod fchown fork forkpty getegid geteuid getgid getgroups getpgid getpgrp getsid getuid
        killpg lchown mkfifo mknod nice openpty posix_spawn pread pwrite sched_setaffinity sendfile set_blocking setgid
        setpgid setsid setuid statvfs sync tcgetpgrp ttyname uname wait3 wait4 waitid O_DIRECTORY O_NOFOLLOW O_SYNC
        register_at_fork""",
    "signal": """SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGPWR SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2
        SIGWINCH alarm pause pthread_kill pthread_sigmask setitimer sigwait siginterrupt""",
    "socket": "AF_UNIX socketpair send_fds recv_fds",
    "time": "tzset clock_gettime",
    "asyncio": "start_unix_server open_unix_connection",
}
POSIX_METHODS = {"add_reader", "add_writer", "remove_reader", "remove_writer", "create_unix_server"}
POSIX_ARGUMENTS = {"preexec_fn", "pass_fds", "start_new_session", "process_group"}
WINDOWS_NAMES = {"WinDLL", "windll", "WinError", "get_last_error", "GetLastError", "add_dll_directory"}
ASKS = ("os.name", "sys.platform", "platform", "hasattr", "_posix", "unix_socket", "_HAS_UNIX_SOCKETS")
BEHIND = {
    "labctl/sim/raw_port.py": "Pty",  # made only where os.openpty is, in labctl/sim/serving.py
    "labctl/run/endpoint.py": "_listen_on_file",  # called only where there are Unix sockets
    "labctl/processes.py": "own_session",
    "labctl/job_object.py": "kernel32",  # jobs are made on Windows only
    "labctl/run/awake.py": "_ask_windows",
}
"""One class or function of a module that as a whole is used behind a question asked elsewhere."""


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def asked_before(node: ast.AST, above: dict[ast.AST, ast.AST]) -> bool:
    """Whether an ``if``, or a return before it in the same block, asks for the platform."""
    while node in above:
        child, node = node, above[node]
        if isinstance(node, ast.If | ast.IfExp | ast.BoolOp) and asks(
            node if isinstance(node, ast.BoolOp) else node.test
        ):
            return True
        for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
            if isinstance(block, list) and child in block:
                for earlier in block[: block.index(child)]:
                    if isinstance(earlier, ast.If) and asks(earlier.test) and isinstance(earlier.body[-1], ast.Return):
                        return True
    return False


def asks(test: ast.AST) -> bool:
    text = ast.unparse(test)
    return any(word in text for word in ASKS) or 'startswith("/")' in text or "startswith('/')" in text


def of_one_system(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Everything that does not exist on both systems."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, a.name) for a in node.names if a.name in POSIX_MODULES | {"msvcrt", "winreg", "_winapi"})
        elif isinstance(node, ast.ImportFrom) and node.module in POSIX_MODULES | {"msvcrt", "winreg", "_winapi"}:
            yield node, str(node.module)
        elif isinstance(node, ast.Attribute):
            module = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr in POSIX_NAMES.get(module, "").split() or node.attr in POSIX_METHODS | WINDOWS_NAMES:
                yield node, ast.unparse(node)
        elif isinstance(node, ast.Call):
            yield from ((node, str(k.arg)) for k in node.keywords if k.arg in POSIX_ARGUMENTS)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("/proc/"):
            yield node, node.value


def outside(tree: ast.Module, name: str | None) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef):
            node.body = [entry for entry in node.body if getattr(entry, "name", None) != name or name is None]
    return tree


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_what_one_system_lacks_is_behind_a_question(path: Path) -> None:
    tree = outside(ast.parse(path.read_text(encoding="utf-8")), BEHIND.get(short(path)))
    above = parents(tree)
    unasked = [f"line {node.lineno}: {name}" for node, name in of_one_system(tree) if not asked_before(node, above)]
    assert unasked == []


def test_the_exceptions_exist() -> None:
    for module, name in BEHIND.items():
        tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
        names = {getattr(node, "name", "") for node in ast.walk(tree)}
        assert name in names


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import fcntl", ["fcntl"]),
        ("from termios import tcgetattr", ["termios"]),
        ("os.killpg(1, signal.SIGKILL)", ["os.killpg", "signal.SIGKILL"]),
        ("Popen(x, start_new_session=True)", ["start_new_session"]),
        ("if os.name == 'posix':\n    os.fork()", []),
        ("def f():\n    if sys.platform == 'win32':\n        return\n    os.fork()", []),
        ("def f():\n    if ready:\n        return\n    os.fork()", ["os.fork"]),
        ("if sys.platform == 'win32':\n    pass\nelse:\n    import fcntl", []),
        ("ctypes.WinDLL('kernel32')", ["ctypes.WinDLL"]),
    ],
)
def test_the_search_finds_what_it_looks_for(code: str, found: list[str]) -> None:
    tree = ast.parse(code)
    above = parents(tree)
    assert sorted(n for node, n in of_one_system(tree) if not asked_before(node, above)) == sorted(found)


def texts_without_encoding(tree: ast.AST) -> list[str]:
    """Calls that read or write text in whatever encoding the computer happens to have."""
    found: list[str] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(keyword.arg in (None, "encoding") for keyword in node.keywords):
            continue
        name = ast.unparse(node.func).split(".")[-1]
        given = [ast.unparse(argument) for argument in node.args]
        keywords = {str(keyword.arg): ast.unparse(keyword.value) for keyword in node.keywords}
        mode = keywords.get("mode", next((text for text in given if set(text.strip("'\"")) <= set("rwaxbt+")), ""))
        if (
            (name in ("read_text", "write_text") and not (name == "read_text" and given))
            or (name in ("run", "Popen", "check_output") and ("text" in keywords or "universal_newlines" in keywords))
            or (name in ("open", "fdopen") and mode and "b" not in mode)
        ):
            found.append(f"line {node.lineno}: {ast.unparse(node)[:80]}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_every_text_has_its_encoding(path: Path) -> None:
    assert texts_without_encoding(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_a_text_without_encoding_is_found() -> None:
    code = (
        "p.read_text(); p.open('w'); open(p, mode='a'); run(c, text=True); p.open('rb'); p.read_text(encoding='utf-8')"
    )
    assert len(texts_without_encoding(ast.parse(code))) == 4
