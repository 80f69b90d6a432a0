# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.errors import DeadlineExpired
from dunelab.images.cache import MANIFEST, Cache, default_root, file_lock, write_atomically
from dunelab.images.digest import Digest, sha256_file, source_files

KIND = "things"
NAME = "0" * 64


def make_hello(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/hello").write_text("hello", encoding="utf-8")


def never(folder: Path) -> None:
    pytest.fail(f"made again in {folder}")


def test_made_once_and_then_found(tmp_path: Path) -> None:
    first = Cache(tmp_path).get_or_make(KIND, NAME, make_hello)
    assert (first / "sub/hello").read_text() == "hello"
    assert Cache(tmp_path).get_or_make(KIND, NAME, never) == first


def test_failed_make_leaves_nothing(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        make_hello(folder)
        raise RuntimeError("half-way")

    cache = Cache(tmp_path)
    with pytest.raises(RuntimeError, match="half-way"):
        cache.get_or_make(KIND, NAME, fails)
    assert not cache.has(KIND, NAME)
    assert list((tmp_path / KIND).iterdir()) == []
    cache.get_or_make(KIND, NAME, make_hello)


def test_damaged_entry_is_made_again(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        entry = cache.get_or_make(KIND, NAME, make_hello)
    (entry / "sub/hello").write_text("HELLO", encoding="utf-8")  # same size, other bytes
    entry = Cache(tmp_path).get_or_make(KIND, NAME, make_hello)
    assert (entry / "sub/hello").read_text() == "hello"


def test_what_has_not_changed_is_not_hashed_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hashed: list[Path] = []

    def count(path: Path) -> str:
        hashed.append(path)
        return sha256_file(path)

    with Cache(tmp_path) as cache:
        entry = cache.get_or_make(KIND, NAME, make_hello)
    monkeypatch.setattr("dunelab.images.cache.sha256_file", count)
    hello = entry / "sub/hello"

    def use() -> int:
        hashed.clear()
        with Cache(tmp_path) as cache:
            cache.get_or_make(KIND, NAME, make_hello)
        return len(hashed)

    # Too young: what is written to it now may have the same ctime.
    assert [use(), use()] == [1, 1]
    monkeypatch.setattr("dunelab.images.cache._SETTLED_SECONDS", 0.0)
    assert [use(), use()] == [1, 0]
    before = hello.stat().st_ctime_ns
    deadline = Deadline.after(10.0, "a tick of the file system's clock")
    while hello.stat().st_ctime_ns == before:
        deadline.check()
        hello.write_text("HELLO", encoding="utf-8")
    assert use() > 0
    assert hello.read_text() == "hello"
    assert not list(tmp_path.glob("*/.tmp-*"))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', '{"size": 1, "files": []}'])
def test_damaged_manifest_is_made_again(tmp_path: Path, text: str) -> None:
    with Cache(tmp_path) as cache:
        entry = cache.get_or_make(KIND, NAME, make_hello)
    (entry / MANIFEST).write_text(text, encoding="utf-8")
    entry = Cache(tmp_path).get_or_make(KIND, NAME, make_hello)
    assert json.loads((entry / MANIFEST).read_text())["size"] == 5


def test_leftover_of_a_killed_process_goes(tmp_path: Path) -> None:
    leftover = tmp_path / KIND / f".tmp-{NAME}-dead"
    leftover.mkdir(parents=True)
    Cache(tmp_path).get_or_make(KIND, NAME, make_hello)
    assert not leftover.exists()


def _slow_process(root: str, barrier: object, all_have_it: object, results: object) -> None:
    def make(folder: Path) -> None:
        # Long enough for the others to arrive; one byte per making.
        time.sleep(0.3)
        with (Path(root) / "makings").open("a") as stream:
            stream.write("x")
        make_hello(folder)

    barrier.wait(timeout=20)  # type: ignore[attr-defined]
    with Cache(Path(root)) as cache:
        entry = cache.get_or_make(KIND, NAME, make, Deadline.after(10, "the entry"))
        results.put((entry / "sub/hello").read_text())  # type: ignore[attr-defined]
        # Still in use: who came second must not wait for the first to let go.
        all_have_it.wait(timeout=20)  # type: ignore[attr-defined]


def test_processes_at_once_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, all_have_it, results = context.Barrier(4), context.Barrier(4), context.Queue()
    workers = [
        context.Process(target=_slow_process, args=(str(tmp_path), barrier, all_have_it, results))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    texts = [results.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join(timeout=20)
    assert texts == ["hello"] * 4
    assert (tmp_path / "makings").read_text() == "x"


def test_prune_by_age_and_size(tmp_path: Path) -> None:
    names = {"a" * 64: 10.0, "b" * 64: 5.0, "c" * 64: 1.0}
    now = time.time()
    for name, days in names.items():
        with Cache(tmp_path) as cache:
            entry = cache.get_or_make(KIND, name, make_hello)
        os.utime(entry / MANIFEST, (now - days * 86400, now - days * 86400))

    cache = Cache(tmp_path)
    trial = cache.prune(keep_days=7, now=now, dry_run=True)
    assert [entry.digest[0] for entry in trial.removed] == ["a"]
    assert len(cache.entries()) == 3

    assert cache.prune(keep_days=7, now=now).freed == 5
    assert {entry.digest[0] for entry in cache.entries()} == {"b", "c"}

    report = cache.prune(keep_bytes=6, now=now)
    assert [entry.digest[0] for entry in report.removed] == ["b"]
    assert [entry.digest[0] for entry in report.kept] == ["c"]


def test_prune_leaves_what_is_in_use(tmp_path: Path) -> None:
    user = Cache(tmp_path)
    user.get_or_make(KIND, NAME, make_hello)
    report = Cache(tmp_path).prune(keep_bytes=0)
    assert [entry.digest for entry in report.busy] == [NAME]
    user.close()
    assert [entry.digest for entry in Cache(tmp_path).prune(keep_bytes=0).removed] == [NAME]


def test_prune_deletes_read_only_folders(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        make_hello(folder)
        (folder / "sub").chmod(0o500)

    with Cache(tmp_path) as cache:
        cache.get_or_make(KIND, NAME, make)
    Cache(tmp_path).prune(keep_bytes=0)
    assert list((tmp_path / KIND).iterdir()) == []


def test_use_renews_the_age(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        entry = cache.get_or_make(KIND, NAME, make_hello)
    os.utime(entry / MANIFEST, (0, 0))
    with Cache(tmp_path) as cache:
        cache.get_or_make(KIND, NAME, never)
    assert time.time() - (entry / MANIFEST).stat().st_mtime < 60


def test_lock_waits_no_longer_than_its_deadline(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with (
        file_lock(lock, Deadline.after(5, "first")),
        pytest.raises(DeadlineExpired, match="no second within"),
        file_lock(lock, Deadline.after(0.05, "second")),
    ):
        pytest.fail("two holders")


def test_write_atomically_replaces_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep/file"
    write_atomically(target, "one")
    write_atomically(target, "two")
    assert target.read_text() == "two"
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_root_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "dunelab"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/invalid")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache/dunelab"


def test_digest_is_stable_and_unambiguous() -> None:
    # Written down once: a change here orphans every cache there is.
    assert (
        Digest("test").text("a", "b").hex()
        == "3d11efe42e687c511e3d72736aa2f17c7abac5301c014f9f2268e77f6e1637d6"
    )
    assert Digest("p").texts("l", ["ab", "c"]).hex() != Digest("p").texts("l", ["a", "bc"]).hex()
    assert Digest("p").text("a", "").text("b", "x").hex() != Digest("p").text("a", "x").hex()
    assert Digest("p").hex() != Digest("q").hex()


def test_tree_digest_follows_content_names_and_mode(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.c").write_text("int a;")
    (tmp_path / "sub/b.h").write_text("int b;")

    def digest() -> str:
        return Digest("t").tree("sources", tmp_path).hex()

    before = digest()
    for litter in ("a.o", "dune.ko", "dune.mod.c", "Module.symvers"):
        (tmp_path / litter).write_text("litter")
    (tmp_path / ".a.o.cmd").write_text("litter")
    assert digest() == before
    assert [path.name for path in source_files(tmp_path)] == ["a.c", "b.h"]

    (tmp_path / "sub/b.h").write_text("int c;")
    changed = digest()
    assert changed != before
    (tmp_path / "a.c").chmod(0o755)
    assert digest() != changed
    (tmp_path / "a.c").rename(tmp_path / "z.c")
    assert digest() not in (before, changed)
