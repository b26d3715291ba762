"""Environments of external programs: exact, atomic, shared, resumable, and never mixed with ours."""

import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from fairlead.kernel import toolenv
from fairlead.kernel.errors import FairleadError


def make_wheel(folder: Path, version: str) -> Path:
    """A real wheel of the program "greeter": one module, one console script."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"greeter-{version}.dist-info"
    files = {
        "greeter.py": f"VERSION = {version!r}\ndef main():\n    print(VERSION)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: greeter\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ngreeter = greeter:main\n",
    }
    rows = [
        f"{name},sha256={urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}"
        for name, text in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,\n"])
    path = folder / f"greeter-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    """A folder of locks with one program in it, whose wheel lies in a folder beside."""
    folder = tmp_path / "locks"
    folder.mkdir()
    lock(folder, "1.0")
    return folder


def lock(folder: Path, version: str, *, digest: str | None = None) -> None:
    wheel = make_wheel(folder.parent / "wheels", version)
    digest = digest or sha256(wheel.read_bytes()).hexdigest()
    (folder / "greeter.txt").write_text(
        f"--no-index\n--find-links {wheel.parent}\ngreeter=={version} --hash=sha256:{digest}\n"
    )


def greeting(python: Path) -> str:
    return subprocess.run(
        [python.parent / "greeter"], capture_output=True, text=True, check=True
    ).stdout.strip()


ASK = textwrap.dedent("""
    import sys
    from pathlib import Path
    from fairlead.kernel import toolenv
    print(toolenv.ensure("greeter", root=Path(sys.argv[1]), locks=Path(sys.argv[2])), flush=True)
    sys.stdin.read()
""")


def asking(root: Path, locks: Path, **variables: str) -> subprocess.Popen[str]:
    """A process that asks for the program, prints where it is, and stays until its input closes."""
    return subprocess.Popen(
        [sys.executable, "-c", ASK, str(root), str(locks)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


def test_an_environment_holds_what_its_lock_names_and_is_made_once(tmp_path: Path, locks: Path) -> None:
    python = toolenv.ensure("greeter", root=tmp_path / "root", locks=locks)
    assert greeting(python) == "1.0"
    made = python.stat().st_ctime_ns
    assert toolenv.ensure("greeter", root=tmp_path / "root", locks=locks) == python
    assert python.lstat().st_ctime_ns >= made
    assert [entry.name for entry in (tmp_path / "root").iterdir() if entry.is_dir()] == [
        python.parents[1].name
    ]


def test_processes_that_ask_at_once_get_one_environment_that_works(tmp_path: Path, locks: Path) -> None:
    root = tmp_path / "root"
    processes = [asking(root, locks) for _ in range(4)]
    answers = [process.communicate()[0].strip().splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert len(set(answers)) == 1
    assert greeting(Path(answers[0])) == "1.0"


def test_a_build_that_was_killed_is_taken_up_again(tmp_path: Path, locks: Path) -> None:
    root = tmp_path / "root"
    victim = asking(root, locks)
    deadline = time.monotonic() + 60
    while not list(root.glob("greeter-*/pyvenv.cfg")):
        assert time.monotonic() < deadline
        assert victim.poll() is None
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    python = toolenv.ensure("greeter", root=root, locks=locks)
    assert greeting(python) == "1.0"


def test_half_an_environment_is_not_mistaken_for_a_whole_one(tmp_path: Path, locks: Path) -> None:
    python = toolenv.ensure("greeter", root=tmp_path / "root", locks=locks)
    environment = python.parents[1]
    (environment / ".ready").unlink()
    (environment / "bin" / "greeter").unlink()
    assert toolenv.ensure("greeter", root=tmp_path / "root", locks=locks) == python
    assert greeting(python) == "1.0"


def test_a_new_version_replaces_the_old_one_once_nobody_uses_it(tmp_path: Path, locks: Path) -> None:
    root = tmp_path / "root"
    user = asking(root, locks)
    assert user.stdout is not None
    old = next(Path(line.strip()) for line in user.stdout if line.startswith("/"))
    lock(locks, "2.0")
    new = toolenv.ensure("greeter", root=root, locks=locks)
    assert greeting(new) == "2.0"
    assert greeting(old) == "1.0"
    user.communicate()
    lock(locks, "3.0")
    assert greeting(toolenv.ensure("greeter", root=root, locks=locks)) == "3.0"
    assert not old.exists()
    assert new.exists()  # this process uses it


def test_nothing_of_the_callers_own_python_leaks_in(tmp_path: Path, locks: Path) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "sitecustomize.py").write_text("")
    process = asking(
        tmp_path / "root",
        locks,
        VIRTUAL_ENV=str(tmp_path / "other"),
        UV_PYTHON="3.99",
        UV_PROJECT_ENVIRONMENT=str(tmp_path / "other"),
    )
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert greeting(Path(out.strip().splitlines()[-1])) == "1.0"
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "name", ["nothing", "../greeter", "greeter.txt", "", "/etc/passwd", "greeter\0"], ids=repr
)
def test_a_name_without_a_lock_is_refused_and_the_known_ones_are_named(
    tmp_path: Path, locks: Path, name: str
) -> None:
    with pytest.raises(toolenv.ToolUnknown, match="known are: greeter"):
        toolenv.ensure(name, root=tmp_path / "root", locks=locks)
    assert not (tmp_path / "root").exists()


def test_a_package_that_is_not_the_locked_one_is_refused(tmp_path: Path, locks: Path) -> None:
    lock(locks, "1.0", digest="0" * 64)
    with pytest.raises(toolenv.ToolHashMismatch) as refused:
        toolenv.ensure("greeter", root=tmp_path / "root", locks=locks)
    assert not refused.value.retryable
    lock(locks, "1.0")
    assert greeting(toolenv.ensure("greeter", root=tmp_path / "root", locks=locks)) == "1.0"


def test_an_index_that_cannot_be_reached_is_said_to_be_offline_without_its_password(
    tmp_path: Path, locks: Path
) -> None:
    (locks / "greeter.txt").write_text(
        f"--index-url http://user:hidden@127.0.0.1:9/simple\ngreeter==1.0 --hash=sha256:{'0' * 64}\n"
    )
    os.environ["UV_HTTP_RETRIES"] = "0"
    try:
        with pytest.raises(toolenv.ToolOffline) as refused:
            toolenv.ensure("greeter", root=tmp_path / "root", locks=locks)
    finally:
        del os.environ["UV_HTTP_RETRIES"]
    assert refused.value.retryable
    assert refused.value.remedy is not None
    assert "hidden" not in str(refused.value.problem())


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("error: Failed to write: No space left on device (os error 28)", toolenv.ToolDiskFull),
        ("error: Hash mismatch for `x==1`", toolenv.ToolHashMismatch),
        ("error: Failed to fetch: `https://x/`\n  Caused by: dns error", toolenv.ToolOffline),
        ("error: something new", toolenv.ToolBuildFailed),
    ],
    ids=["disk", "hash", "network", "other"],
)
def test_uvs_words_become_an_error_with_a_remedy(
    tmp_path: Path, output: str, kind: type[FairleadError]
) -> None:
    error = toolenv._of_output(output, tmp_path / "greeter.txt")
    assert type(error) is kind
    assert error.remedy


def test_a_root_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path, locks: Path) -> None:
    (tmp_path / "root").write_text("a file, not a folder")
    with pytest.raises(toolenv.ToolBuildFailed, match="cannot be kept") as refused:
        toolenv.ensure("greeter", root=tmp_path / "root", locks=locks)
    assert "FAIRLEAD_TOOLENV_DIR" in (refused.value.remedy or "")


def test_a_full_disk_is_named_as_such(tmp_path: Path) -> None:
    error = toolenv._of_os_error(OSError(errno.ENOSPC, "full"), "greeter", tmp_path)
    assert isinstance(error, toolenv.ToolDiskFull)


def test_every_lock_of_the_checkout_pins_and_hashes_all_it_names() -> None:
    files = sorted(toolenv.locks_dir().glob("*.txt"))
    assert {"aws-api-mcp-server", "mcp-proxy-for-aws"} <= {path.stem for path in files}
    for path in files:
        assert (path.with_suffix(".in")).exists()
        entries = re.split(r"\n(?=\S)", path.read_text().strip())
        for entry in (entry for entry in entries if not entry.startswith("#")):
            assert re.match(r"[a-zA-Z0-9._-]+(\[.*\])?==", entry), f"{path.name}: {entry[:60]}"
            assert "--hash=sha256:" in entry, f"{path.name}: {entry[:60]}"
