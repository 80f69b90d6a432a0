# SPDX-License-Identifier: MIT
"""The error families of the harness.

Three outcomes must never mix, because each is somebody else's work:

* an assertion failed        -> the product is wrong      (pytest's AssertionError)
* the guest died             -> the kernel or module is   (GuestDied)
* the infrastructure failed  -> the bench itself is       (InfrastructureError)

Each error says what happened, where the evidence is, and what to type next.
"""

from __future__ import annotations

from pathlib import Path


class DunelabError(Exception):
    """Base of everything the harness raises on purpose."""

    def __init__(
        self,
        what: str,
        *,
        evidence: Path | str | None = None,
        next_command: str | None = None,
    ) -> None:
        self.what = what
        self.evidence = evidence
        self.next_command = next_command
        super().__init__(self._text())

    def _text(self) -> str:
        lines = [self.what]
        if self.evidence is not None:
            lines.append(f"  evidence: {self.evidence}")
        if self.next_command is not None:
            lines.append(f"  next:     {self.next_command}")
        return "\n".join(lines)


class UsageError(DunelabError):
    """What was asked for makes no sense (unknown kernel, no such cell)."""


class InfrastructureError(DunelabError):
    """The bench failed: a download, a build tool, a port, an emulator."""


class EngineUnavailable(InfrastructureError):
    """An engine was asked for by name and cannot do it on this machine."""


class BuildFailed(InfrastructureError):
    """A compiler or an image recipe failed; the evidence is its log."""


class BootFailed(InfrastructureError):
    """The guest never reached its first command, and did not splat either."""


class DeadlineExpired(InfrastructureError):
    """A wait ran out of time without a more exact cause being known."""


class GuestDied(DunelabError):
    """The guest kernel panicked, hung or vanished while it was in use."""
