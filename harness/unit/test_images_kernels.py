# SPDX-License-Identifier: MIT
from __future__ import annotations

import lzma
import subprocess
from pathlib import Path

import pytest

from dunelab.errors import InfrastructureError, UsageError
from dunelab.images import kernel, resolve
from dunelab.images.archive import Package
from dunelab.images.cache import Cache
from dunelab.images.kernels import KernelEntry, Lost, Matrix
from dunelab.images.module import compiler_flags
from dunelab.images.recipes import BochsRecipe, BuilderRecipe, FullRecipe, GuestRecipe
from dunelab.images.resolve import Record, kernel_packages, releases_of
from dunelab.images.store import find_repo_root
from dunelab.images.updates import NewSeries, add_entries, flavours_of, survey

REPO = Path(__file__).resolve().parents[2]

GOOD = """
default = "a"
[[kernel]]
id = "a"
suite = "trixie"
series = "6.12"
flavours = ["amd64", "rt-amd64"]
[[kernel]]
id = "b"
suite = "bookworm"
release = "6.1.0-50"
flavours = ["cloud-amd64"]
[[lost]]
series = ["6.16"]
reason = "no headers"
"""


def matrix(tmp_path: Path, text: str) -> Matrix:
    path = tmp_path / "kernels.toml"
    path.write_text(text, encoding="utf-8")
    return Matrix.read(path)


def test_reads_series_and_release(tmp_path: Path) -> None:
    found = matrix(tmp_path, GOOD)
    assert found.get() == KernelEntry("a", "trixie", "amd64", "6.12", None)
    assert found.get("a-rt") == KernelEntry("a-rt", "trixie", "rt-amd64", "6.12", None)
    assert found.get("b-cloud").wanted == "6.1.0-50-cloud-amd64 in bookworm"
    assert [found.get(name).version for name in ("a", "b-cloud")] == [(6, 12), (6, 1)]
    assert found.lost == (Lost(("6.16",), "no headers"),)


def test_unknown_kernel_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no kernel 'c' .* there are: a, a-rt, b-cloud"):
        matrix(tmp_path, GOOD).get("c")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('default = "a"', 'default = "x"', "default 'x' names no kernel"),
        ('default = "a"', "", "'default' must be a non-empty string"),
        ('flavours = ["cloud-amd64"]', 'flavours = ["rt-amd64", "rt-amd64"]', "is there twice"),
        ('id = "b"', 'id = "B/x"', "may hold"),
        ('series = "6.12"', "", "either 'series' or 'release'"),
        ('series = "6.12"', 'series = "6.12"\nrelease = "6.12.1"', "either 'series' or 'release'"),
        ('suite = "bookworm"', "suite = 12", "'suite' must be a non-empty string, not 12"),
        ('suite = "trixie"', 'suite = "trixie"\nflavor = "x"', "unknown key flavor"),
        ('["cloud-amd64"]', "[]", "'flavours' names no flavour"),
        ("[[kernel]]", "[[kernels]]", "must be an array of tables"),
        ('default = "a"', "default = ", "not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(UsageError, match=message):
        matrix(tmp_path, GOOD.replace(old, new))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        Matrix.read(tmp_path / "kernels.toml")


def test_the_trees_own_recipes_are_valid() -> None:
    images = REPO / "images"
    own = Matrix.read(images / "kernels.toml")
    assert {"debian-6.1", "debian-6.12"} <= {entry.id for entry in own.kernels}
    assert "gcc-14" in BuilderRecipe.read(images / "builder.toml").packages
    assert "--enable-vmx=2" in BochsRecipe.read(images / "bochs.toml").configure
    guest = GuestRecipe.read(images / "guest.toml")
    assert {"e1000", "virtio_net"} == set(guest.network_modules)
    assert "squashfs" in guest.disk_modules
    full = FullRecipe.read(images / "full.toml")
    assert "libpython3.13-testsuite" in full.packages
    assert (full.files / "customize").is_file()


def test_no_address_in_the_recipes() -> None:
    for path in (REPO / "images").rglob("*"):
        if path.is_file():
            assert "://" not in path.read_text(encoding="utf-8"), path


def test_repo_root_is_found_upwards(tmp_path: Path) -> None:
    assert find_repo_root(REPO / "harness/unit") == REPO
    with pytest.raises(UsageError, match="nowhere above"):
        find_repo_root(tmp_path)


def test_releases_of_a_series_and_flavour() -> None:
    names = [
        "linux-headers-6.12.94+deb13-amd64",
        "linux-headers-6.12.107+deb13-amd64",
        "linux-headers-6.12.107+deb13-cloud-amd64",
        "linux-headers-6.12.107+deb13-rt-amd64",
        "linux-headers-6.12.107+deb13-common",
        "linux-headers-6.1.0-50-amd64",
        "linux-headers-6.1.0-50-cloud-amd64",
    ]
    assert releases_of(names, "6.12", "amd64") == [
        "6.12.94+deb13-amd64",
        "6.12.107+deb13-amd64",
    ]
    assert releases_of(names, "6.1", "amd64") == ["6.1.0-50-amd64"]
    assert releases_of(names, "6.12", "cloud-amd64") == ["6.12.107+deb13-cloud-amd64"]
    assert releases_of(names, "6.12", "rt-amd64") == ["6.12.107+deb13-rt-amd64"]


def test_a_release_candidate_bears_the_series_name() -> None:
    names = ["linux-headers-7.3-amd64", "linux-headers-7.3-rt-amd64", "linux-headers-7.30-amd64"]
    assert releases_of(names, "7.3", "amd64") == ["7.3-amd64"]


def test_kernel_packages_follow_the_dependencies() -> None:
    control = {
        "linux-image-7-amd64": "kmod, linux-base (>= 4), linux-base-7-amd64 (= 7), "
        "linux-binary-7-amd64 (= 7), linux-modules-7-amd64 (= 7)",
        "linux-headers-7-amd64": "linux-headers-7-common (= 7), linux-image-7-amd64 (= 7) | "
        "linux-image-7-amd64-unsigned (= 7), linux-kbuild-7, gcc-14",
    }
    names = kernel_packages(lambda name: {"Depends": control.get(name, "")}, "7-amd64")
    assert names == [
        "linux-image-7-amd64",
        "linux-headers-7-amd64",
        "linux-base-7-amd64",
        "linux-binary-7-amd64",
        "linux-modules-7-amd64",
        "linux-headers-7-common",
        "linux-kbuild-7",
    ]


def test_records_survive_their_file_and_refuse_strangers() -> None:
    record = Record("spec", "6.1.0-50-amd64", ())
    assert Record.from_json(record.to_json()) == record
    for text in ("", "[]", "{}", '{"schema": 99}', record.to_json().replace("spec", "s", 1)):
        assert Record.from_json(text) is None


class FakeArchive:
    """An archive that has everything, and counts how often it was asked."""

    updates = 0

    def __init__(self, cache: Cache, suite: str) -> None:
        self.suite = suite

    def update(self) -> None:
        FakeArchive.updates += 1

    def package(self, name: str) -> Package:
        return Package(name, "1", "0" * 64, 1, f"pool/{name}.deb")


def test_two_recipes_of_one_key_keep_their_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two working trees share a cache; each asks the archive once, not at every change of hands."""
    monkeypatch.setattr(resolve, "Archive", FakeArchive)
    monkeypatch.setattr(FakeArchive, "updates", 0)
    for _ in range(2):
        for names in (["gcc"], ["gcc", "sparse"]):
            # A resolver knows what it has updated: one per command, as in reality.
            resolver = resolve.Resolver(Cache(tmp_path), lambda text: None)
            record = resolver.packages("builder", "trixie", names)
            assert [package.name for package in record.packages] == names
    assert FakeArchive.updates == 2


class Suite:
    """An index with two series, one of them in a newer version than is on record."""

    def __init__(self, suite: str) -> None:
        self.suite = suite

    def update(self) -> None:
        if self.suite == "gone":
            raise InfrastructureError("no such suite\nmore")

    def names(self, prefix: str) -> list[str]:
        releases = ("6.12.94+deb13-amd64", "6.12.107+deb13-amd64", "7.2.1+deb13-amd64", "amd64")
        found = [f"linux-headers-{release}" for release in (*releases, "7.4.1-common")]
        return [name for name in found if name.startswith(prefix)]

    def package(self, name: str) -> Package:
        return Package(name, "6.12.107-2" if "107" in name else "1", "0" * 64, 1, "")


def test_what_is_newer_is_proposed_and_what_is_new_named() -> None:
    entries = [
        KernelEntry("a", "trixie", "amd64", "6.12", None),
        KernelEntry("b", "trixie", "amd64", None, "6.12.94+deb13"),
        KernelEntry("c", "gone", "amd64", "6.1", None),
    ]
    same = Package("linux-headers-6.12.94+deb13-amd64", "1", "0" * 64, 1, "")
    old = Package("linux-headers-6.12.107+deb13-amd64", "6.12.107-1", "0" * 64, 1, "")
    records = {
        "a": Record("", "6.12.107+deb13-amd64", (old,)),
        "b": Record("", "6.12.94+deb13-amd64", (same,)),
    }
    found = survey(entries, lambda entry: records.get(entry.id), Suite)
    assert [(offer.kernel, offer.newer) for offer in found.offers] == [("a", True), ("b", False)]
    assert found.offers[0].recorded == "6.12.107+deb13-amd64 (6.12.107-1)"
    assert found.offers[0].offered == "6.12.107+deb13-amd64 (6.12.107-2)"
    assert found.uncovered == (NewSeries("trixie", "7.2", ("amd64",)),)
    assert found.unreachable == (("gone", "no such suite"),)
    assert found.news


def test_a_new_series_becomes_an_entry(tmp_path: Path) -> None:
    path = tmp_path / "kernels.toml"
    before = Path("images/kernels.toml").read_text()
    path.write_text(before)
    add_entries(
        path,
        [
            NewSeries("trixie-backports", "7.9", ("amd64", "rt-amd64")),
            NewSeries("sid", "7.9", ("amd64",)),
        ],
    )
    old, new = Matrix.read(Path("images/kernels.toml")), Matrix.read(path)
    assert [entry.id for entry in new.kernels] == [
        *(entry.id for entry in old.kernels),
        "debian-7.9",
        "debian-7.9-rt",
        "debian-7.9-sid",
    ]
    assert new.get("debian-7.9-sid").wanted == "7.9.*-amd64 in sid"
    assert new.lost == old.lost
    # What was there, comments too, is as it was, and stands where it stood.
    kept = path.read_text().splitlines()
    assert [line for line in before.splitlines() if line not in kept] == []
    assert kept[-len(before[before.index("# In the table") :].splitlines()) :] == (
        before[before.index("# In the table") :].splitlines()
    )


def test_flavours_that_the_matrix_is_about() -> None:
    names = [f"linux-headers-7.9.1+deb13-{flavour}" for flavour in ("amd64", "rt-amd64", "other")]
    assert flavours_of(names, "7.9") == ("amd64", "rt-amd64")
    assert flavours_of(names, "7.8") == ()


# -- kernel modules ---------------------------------------------------------------

DEPENDS = {
    "virtio_net": ("net_failover", "virtio"),
    "net_failover": ("failover",),
    "failover": (),
    "virtio": (),
    "e1000": (),
}


def test_modules_load_after_what_they_need() -> None:
    order = kernel.load_order(["e1000", "virtio_net"], lambda name: DEPENDS[name])
    assert order == ["e1000", "failover", "net_failover", "virtio", "virtio_net"]


def test_modules_that_need_each_other_are_an_error() -> None:
    circle = {"a": ("b",), "b": ("a",)}
    with pytest.raises(InfrastructureError, match="a -> b -> a"):
        kernel.load_order(["a"], lambda name: circle[name])


def test_modules_dep_lists_the_nearest_first() -> None:
    files = {name: f"kernel/{name}.ko" for name in DEPENDS}
    lines = kernel.render_modules_dep(files, lambda name: DEPENDS[name]).splitlines()
    assert "kernel/e1000.ko:" in lines
    # modprobe loads such a line from its end.
    assert (
        "kernel/virtio_net.ko: kernel/virtio.ko kernel/net_failover.ko kernel/failover.ko" in lines
    )


def test_modinfo() -> None:
    fields = kernel.parse_modinfo(b"license=GPL\0depends=a-b,c\0alias=x\0alias=y\0")
    assert fields["alias"] == ["x", "y"]
    assert kernel.depends_of(fields) == ("a_b", "c")
    assert kernel.depends_of(kernel.parse_modinfo(b"depends=\0")) == ()


@pytest.mark.parametrize(
    "name", ["kernel/net/virtio-net.ko", "virtio_net.ko.xz", "virtio-net.ko.zst"]
)
def test_module_names(name: str) -> None:
    assert kernel.module_name(name) == "virtio_net"
    assert kernel.builtin_modules(f"{name}\n") == {"virtio_net"}


def compiled_module(path: Path, depends: str) -> None:
    """A module file with nothing in it but what it needs."""
    subprocess.run(
        ["gcc", "-c", "-x", "c", "-", "-o", str(path)],
        input=f'__attribute__((section(".modinfo"))) char info[] = "depends={depends}";'.encode(),
        timeout=20,
        check=True,
    )


@pytest.fixture
def a_kernel(tmp_path: Path) -> kernel.Kernel:
    """A tree of modules: net-drv (compressed) needs net_core (built in) and lib."""
    tree = tmp_path / "modules"
    (tree / "kernel/net").mkdir(parents=True)
    compiled_module(tree / "kernel/lib.ko", "")
    compiled_module(tree / "kernel/net/net-drv.ko", "net_core,lib")
    plain = tree / "kernel/net/net-drv.ko"
    plain.with_suffix(".ko.xz").write_bytes(lzma.compress(plain.read_bytes()))
    plain.unlink()
    (tree / "modules.builtin").write_text("kernel/net/net-core.ko\n", encoding="utf-8")
    return kernel.Kernel("id", "7-amd64", Record("", "", ()), tmp_path, tree, tmp_path)


def test_modules_are_unpacked_with_what_they_need(a_kernel: kernel.Kernel, tmp_path: Path) -> None:
    found = kernel.unpack_modules(a_kernel, ["net_core", "net_drv"], tmp_path)
    assert [(module.name, module.place) for module in found.values()] == [
        ("lib", "kernel/lib.ko"),
        ("net_drv", "kernel/net/net-drv.ko"),
    ]
    assert found["net_drv"].depends == ("lib",)
    assert found["net_drv"].path.read_bytes().startswith(b"\x7fELF")


def test_another_module_may_need_the_kernels_own(a_kernel: kernel.Kernel, tmp_path: Path) -> None:
    mine = tmp_path / "build/mine.ko"
    mine.parent.mkdir()
    compiled_module(mine, "lib")
    found = kernel.unpack_modules(a_kernel, [], tmp_path, others=[mine])
    assert [module.place for module in found.values()] == ["kernel/lib.ko", "mine.ko"]


def test_a_module_that_is_nowhere_is_an_error(a_kernel: kernel.Kernel, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="kernel 7-amd64 has no module kvm"):
        kernel.unpack_modules(a_kernel, ["kvm"], tmp_path)


def test_the_network_drivers_a_kernel_has(a_kernel: kernel.Kernel) -> None:
    assert kernel.drivers_of(a_kernel, ["e1000", "net_drv", "net_core"]) == ("net_drv", "net_core")


def test_the_compiler_of_a_kernel() -> None:
    assert kernel.gcc_version("CONFIG_X=y\nCONFIG_GCC_VERSION=160200\n") == 160200
    assert kernel.gcc_version("CONFIG_CC_IS_CLANG=y\n") == 0
    assert compiler_flags(160200, 140200) == ["KCFLAGS=-Wno-attributes"]
    assert compiler_flags(140300, 140200) == compiler_flags(0, 140200) == []


def test_vmlinuz_is_found_in_old_and_new_places(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="no vmlinuz"):
        kernel.find_vmlinuz(tmp_path, "7")
    new = tmp_path / "usr/lib/modules/7/vmlinuz"
    new.parent.mkdir(parents=True)
    new.touch()
    assert kernel.find_vmlinuz(tmp_path, "7") == new
