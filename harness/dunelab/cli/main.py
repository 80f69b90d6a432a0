# SPDX-License-Identifier: MIT
"""The ``dunelab`` command.

Each subcommand is a module of this package with ``NAME``, ``HELP``,
``add_arguments(parser)`` and ``run(args) -> int``.  Only the one asked for is
imported, so ``dunelab doctor`` works where a part of the rest is broken.

What follows ``--`` on the command line is not looked at here; a subcommand
that wants it sets ``TAKES_REST`` and finds it in ``args.rest``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from dunelab.errors import DunelabError, InfrastructureError

SUBCOMMANDS: tuple[tuple[str, str], ...] = (
    ("doctor", "measure which engines work here and what is missing"),
    ("build", "build module, library, guest images and emulator into the cache"),
    ("package", "build the Debian packages and have lintian look at them"),
    ("kernels", "list the kernels of images/kernels.toml"),
    ("matrix", "module and tests over all kernels, one table"),
    ("run", "build, boot, run the acceptance suite, report"),
    ("bench", "measure costs in ticks or cycles"),
    ("fidelity", "run third-party suites natively and in Dune mode, and compare"),
    ("exec", "run a command in a guest with dune.ko loaded"),
    ("shell", "a terminal in a guest with dune.ko loaded"),
    ("show-command", "print the exact QEMU or Bochs command line"),
    ("prune", "delete what the cache no longer needs"),
)

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130

_EPILOG = "'dunelab COMMAND --help' explains a command.  Exit status 2 means the bench failed."


class Subcommand(Protocol):
    """What a subcommand's module has to offer."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: parse, run one subcommand, turn errors into text and status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except DunelabError as error:
        print(f"dunelab: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("dunelab: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output (a pager) has had enough.
        sys.stderr.close()
        return 0


def _dispatch(words: list[str]) -> int:
    overview = _overview()
    if not words or words[0] in ("-h", "--help"):
        overview.print_help()
        return 0
    names = [name for name, _help in SUBCOMMANDS]
    if words[0] not in names:
        overview.error(f"no command {words[0]!r}; there are: {', '.join(names)}")
    module = load(words[0])
    before, rest = split_rest(words[1:])
    parser = argparse.ArgumentParser(
        prog=f"dunelab {module.NAME}",
        description=module.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    args = parser.parse_args(before)
    if rest and not getattr(module, "TAKES_REST", False):
        parser.error(f"nothing may follow '--' here: {' '.join(rest)}")
    args.rest = rest
    return module.run(args)


def load(name: str) -> Subcommand:
    """Import a subcommand's module; one that is missing or broken is named."""
    path = f"dunelab.cli.{name.replace('-', '_')}"
    try:
        return cast(Subcommand, importlib.import_module(path))
    except ImportError as error:
        raise InfrastructureError(
            f"'dunelab {name}' cannot be loaded: {error}",
            next_command="pip install -e .  (in the clone of the repository)",
        ) from error


def split_rest(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before the first ``--`` and those after it."""
    if "--" not in words:
        return list(words), []
    at = words.index("--")
    return list(words[:at]), list(words[at + 1 :])


def _overview() -> argparse.ArgumentParser:
    width = max(len(name) for name, _help in SUBCOMMANDS)
    lines = [f"  {name:<{width}}  {text}" for name, text in SUBCOMMANDS]
    return argparse.ArgumentParser(
        prog="dunelab",
        usage="dunelab COMMAND [options]",
        description="A test bench for kernel modules that need VT-x or SVM, on machines that have "
        "neither.\n\ncommands:\n" + "\n".join(lines),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


if __name__ == "__main__":
    sys.exit(main())
