# SPDX-License-Identifier: MIT
from __future__ import annotations

import dataclasses
import shlex
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from processes import wait_gone

from dunelab.deadline import Deadline
from dunelab.errors import BuildFailed, DeadlineExpired, InfrastructureError, UsageError
from dunelab.images import bochs, builder, disk, initramfs, mmdebstrap, module, process
from dunelab.images.archive import Package
from dunelab.images.cache import Cache
from dunelab.images.cmdline import BOCHS_TSC_KHZ, kernel_cmdline
from dunelab.images.cpio import Initramfs
from dunelab.images.iso import grub_config
from dunelab.images.keys import dropbear_key, open_keys
from dunelab.images.recipes import FullRecipe
from dunelab.images.resolve import Record
from dunelab.spec import EngineName

REPO = Path(__file__).resolve().parents[2]

# -- command line -------------------------------------------------------------------


@pytest.mark.parametrize("engine", EngineName)
def test_cmdline_has_console_and_panic(engine: EngineName) -> None:
    words = kernel_cmdline(engine).split()
    assert "console=ttyS0,115200" in words
    assert "panic=-1" in words
    assert "loglevel=5" in words
    # The module must work with these on.
    assert not {"nokaslr", "mitigations=off", "nopti"} & set(words)


def test_cmdline_extras_come_last() -> None:
    line = kernel_cmdline(EngineName.BOCHS, ["nolapic_timer", "loglevel=7"])
    assert line.endswith(" nolapic_timer loglevel=7")
    assert f"tsc_early_khz={BOCHS_TSC_KHZ}" in line.split()


@pytest.mark.parametrize("word", ["", "two words", "line\nbreak"])
def test_cmdline_refuses_what_is_not_one_word(word: str) -> None:
    with pytest.raises(UsageError, match="one word"):
        kernel_cmdline(EngineName.TCG, [word])


def test_bochs_rc_and_cmdline_agree_on_the_clock() -> None:
    bochs_rc = pytest.importorskip("dunelab.engines.bochs_rc")
    assert bochs_rc.INSTRUCTIONS_PER_SECOND == BOCHS_TSC_KHZ * 1000


def test_grub_config_refuses_what_it_would_interpret() -> None:
    assert "linux /vmlinuz console=ttyS0 a=b\n" in grub_config("console=ttyS0 a=b")
    for line in ("a;b", "a=$x", 'a="b"', "a\nb"):
        with pytest.raises(UsageError, match="boot menu"):
            grub_config(line)


# -- initramfs ----------------------------------------------------------------------


def sample() -> Initramfs:
    image = Initramfs()
    image.file("usr/bin/tool", b"#!/bin/sh\n", 0o755)
    image.symlink("bin", "usr/bin")
    image.directory("tmp", 0o1777)
    image.character_device("dev/console", 5, 1)
    image.file("root/.ssh/authorized_keys", b"key", 0o600)
    image.directory("root/.ssh", 0o700)
    return image


def test_cpio_is_read_back_by_cpio(tmp_path: Path) -> None:
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not installed")
    listing = subprocess.run(
        ["cpio", "-itv", "--numeric-uid-gid"],
        input=sample().pack(),
        capture_output=True,
        timeout=20,
        check=True,
    ).stdout.decode()
    lines = {line.split()[8]: line.split() for line in listing.splitlines()}
    assert lines["usr/bin/tool"][0] == "-rwxr-xr-x"
    assert lines["usr/bin/tool"][2:5] == ["0", "0", "10"]
    assert lines["tmp"][0] == "drwxrwxrwt"
    assert lines["root/.ssh"][0] == "drwx------"
    assert lines["root/.ssh/authorized_keys"][0] == "-rw-------"
    assert lines["bin"][9:] == ["->", "usr/bin"]
    console = next(line for line in listing.splitlines() if line.endswith("dev/console"))
    assert console.split()[:6] == ["crw-------", "1", "0", "0", "5,", "1"]


def test_cpio_does_not_depend_on_the_order_of_making() -> None:
    other = Initramfs()
    other.directory("root/.ssh", 0o700)
    other.file("root/.ssh/authorized_keys", b"key", 0o600)
    other.character_device("dev/console", 5, 1)
    other.directory("tmp", 0o1777)
    other.symlink("bin", "usr/bin")
    other.file("usr/bin/tool", b"#!/bin/sh\n", 0o755)
    assert other.pack() == sample().pack()
    assert len(sample().pack()) % 512 == 0
    assert "usr" in other
    assert "usr/bin/other" not in other


def test_initrd_parts_start_on_word_boundaries(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_bytes(b"12345")
    second.write_bytes(b"67")
    with Cache(tmp_path / "cache") as cache:
        joined = initramfs.initrd(cache, [first, second], lambda text: None)
        assert joined.read_bytes() == b"12345\0\0\x0067\0\0"


def test_guest_scripts_are_valid_shell() -> None:
    scripts = sorted((REPO / "images/guest").iterdir())
    assert [path.name for path in scripts] == ["full-root", "init", "serve", "steps"]
    for path in scripts:
        subprocess.run(["sh", "-n", str(path)], timeout=10, check=True)
    text = "".join(path.read_text(encoding="utf-8") for path in scripts)
    assert text.count('echo "dunelab: ready"\n') == 1


# -- the full guest's disk -----------------------------------------------------------


def test_root_command() -> None:
    argv = mmdebstrap.argv(
        "/bin/mmdebstrap",
        suite="trixie",
        mirror="mirror:/debian",
        packages=["a", "b"],
        exclude=["/x/*"],
        output="root.tar",
        hooks=["echo it"],
        options=['Acquire::Check-Date "false";'],
    )
    assert "--include=a,b" in argv
    assert '--aptopt=Acquire::Check-Date "false"' in argv
    assert "--dpkgopt=path-exclude=/x/*" in argv
    assert "--customize-hook=echo it" in argv
    assert argv[-3:-1] == ["trixie", "root.tar"]
    assert argv[-1].endswith("] mirror:/debian trixie main")


def test_disk_hooks_copy_stamp_and_customize(tmp_path: Path) -> None:
    (tmp_path / "customize").write_text("true\n")
    (tmp_path / "It's.java").write_text("class It {}\n")
    folders, upload, stamp, script = disk.hooks(tmp_path, "cafe")
    assert "mkdir -p opt/dunelab etc/dunelab" in folders
    assert shlex.split(upload) == ["upload", str(tmp_path / "It's.java"), "/opt/dunelab/It's.java"]
    assert stamp == f'echo cafe >"$1/{disk.STAMP}"'
    assert script == "true\n"


def test_disk_keeps_the_files_dates() -> None:
    command = disk.pack_command(("-comp", "zstd"))
    assert command.startswith("exec env -u SOURCE_DATE_EPOCH sqfstar -comp zstd ")
    assert command.endswith("/work/out/root.squashfs </work/out/root.tar")


def test_package_list_is_by_size() -> None:
    status = """\
Package: small
Status: install ok installed
Version: 1
Installed-Size: 10

Package: gone
Status: deinstall ok config-files
Version: 2

Package: large
Status: install ok installed
Installed-Size: 2000
Version: 3:4-5
"""
    assert disk.package_list(status) == "    2000 large 3:4-5\n      10 small 1\n"


def test_a_disk_is_named_after_all_it_is_made_from(tmp_path: Path) -> None:
    def stamp(script: str = "true", checksum: str = "aa", **changes: object) -> str:
        (tmp_path / "customize").write_text(script)
        recipe = FullRecipe("trixie", ("a",), ("/x",), ("-comp", "zstd"), tmp_path)
        record = Record("spec", "trixie", (Package("a", "1", checksum, 1, "pool/a.deb"),))
        return disk.stamp_of(dataclasses.replace(recipe, **changes), record)

    stamps = [
        stamp(),
        stamp(script="false"),
        stamp(checksum="bb"),
        stamp(exclude=()),
        stamp(compression=("-comp", "lz4")),
    ]
    assert len(set(stamps)) == len(stamps)
    assert stamp() == stamps[0]


# -- keys ---------------------------------------------------------------------------


def test_keys_are_private_and_stay_the_same(tmp_path: Path) -> None:
    keys = open_keys(Cache(tmp_path))
    assert stat.S_IMODE(keys.client.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.host.stat().st_mode) == 0o600
    assert keys.client_public.read_text().startswith("ssh-ed25519 ")
    before = keys.client.read_bytes()
    assert open_keys(Cache(tmp_path)).client.read_bytes() == before


def test_dropbear_key_layout() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    data = dropbear_key(key)
    assert data[:15] == b"\0\0\0\x0bssh-ed25519"
    assert data[15:19] == b"\0\0\0\x40"
    assert data[19:51] == bytes(range(32))
    assert len(data) == 19 + 64


# -- building -----------------------------------------------------------------------


def test_warnings_are_found_in_logs() -> None:
    log = """\
  CC [M]  /work/module/a.o
a.c:3:7: warning: unused variable 'x' [-Wunused-variable]
WARNING: modpost: missing MODULE_DESCRIPTION() in a.o
a.o: warning: objtool: f() falls through
ld: warning: a.o: missing .note.GNU-stack section
warning: the compiler differs from the one used to build the kernel
  CC [M]  /work/module/warning.o
"""
    assert len(module.find_warnings(log)) == 4
    assert module.find_warnings("  LD [M]  early-warnings.o\n") == []


def test_module_sources_are_copied_without_litter(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "include").mkdir(parents=True)
    for name in ("Kbuild", "a.c", "a.o", "a.ko", "include/a.h", ".a.o.cmd"):
        (source / name).write_text("x")
    module.copy_sources(source, tmp_path / "copy")
    copied = sorted(
        path.relative_to(tmp_path / "copy").as_posix()
        for path in (tmp_path / "copy").rglob("*")
        if path.is_file()
    )
    assert copied == ["Kbuild", "a.c", "include/a.h"]


def test_builder_argv_for_root_and_for_a_user(tmp_path: Path) -> None:
    root = builder.Builder(tmp_path, "identity")
    binds = {Path("/here"): "/work/there"}
    argv = root.argv(["make", "-j2"], binds=binds, cwd="/work", env={"A": "b"}, uid=0)
    assert argv[:4] == ["setpriv", "--pdeathsig", "KILL", "unshare"]
    assert "--net" in argv
    assert "--user" not in argv
    tail = argv[argv.index("enter-builder") :]
    assert tail[:6] == ["enter-builder", str(tmp_path), "/work", "1", "/here", "/work/there"]
    assert tail[-3:] == ["A=b", "make", "-j2"]
    assert "SOURCE_DATE_EPOCH=1" in tail
    user = root.argv(["true"], binds={}, cwd="/", env={}, uid=1000)
    assert user[4:6] == ["--user", "--map-root-user"]


def test_bochs_version_is_read_from_the_banner() -> None:
    banner = "=====\n        Bochs x86 Emulator 3.0\n   Built from ...\n"
    assert bochs.parse_version(banner) == "3.0"
    with pytest.raises(BuildFailed, match="no version"):
        bochs.parse_version("something else")


def test_a_failed_build_falls_back_aloud_or_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match=r"compiler broke.*not installed") as caught:
        bochs.packaged_build(BuildFailed("compiler broke"))
    assert "apt-get install bochs" in str(caught.value)


# -- processes ----------------------------------------------------------------------


def test_run_keeps_the_log_and_quotes_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    deadline = Deadline.after(10, "script")
    process.run(["sh", "-c", "echo fine"], log=log, deadline=deadline, what="script")
    with pytest.raises(BuildFailed, match=r"script failed with status 3: .*broken") as caught:
        process.run(
            ["sh", "-c", "echo broken >&2; exit 3"], log=log, deadline=deadline, what="script"
        )
    assert caught.value.evidence == log
    assert "fine\n" in log.read_text()


def test_the_first_compiler_error_is_quoted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("CC a.o\na.c:1:2: error: no\na.c:9:9: error: other\nmake: *** [a.o] Error 1\n")
    assert process.last_words(log) == "a.c:1:2: error: no"
    log.write_text("one\ntwo\n\nError 1\n")
    assert process.last_words(log) == "two | Error 1"


def test_run_ends_the_whole_group_at_its_deadline(tmp_path: Path) -> None:
    log, pid = tmp_path / "log", tmp_path / "pid"
    with pytest.raises(DeadlineExpired, match="did not end within"):
        process.run(
            ["sh", "-c", f"sleep 60 & echo $! >{pid}; wait"],
            log=log,
            deadline=Deadline.after(0.5, "sleeper"),
            what="sleeper",
        )
    assert wait_gone(int(pid.read_text()))


def test_a_missing_tool_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="apt-get install no-such-tool"):
        process.run(
            ["no-such-tool"],
            log=tmp_path / "log",
            deadline=Deadline.after(5, "tool"),
            what="tool",
        )
