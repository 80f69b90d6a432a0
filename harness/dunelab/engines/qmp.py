# SPDX-License-Identifier: MIT
"""QEMU's monitor, asynchronous inside, synchronous outside.

qemu.qmp is asyncio code.  Its event loop lives in one thread of this object,
so that events are drained while nobody asks, and callers stay ordinary code.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from typing import Any

from qemu.qmp import ExecuteError, QMPClient, QMPError

from dunelab.deadline import Deadline
from dunelab.engines.base import EngineFailed
from dunelab.errors import DeadlineExpired


class QmpSession:
    """A connected monitor.  Every call has a deadline."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="dunelab-qmp", daemon=True)
        self._thread.start()
        self._closed = False
        self._client: Any = None
        try:
            self._await(self._connect(sock), deadline)
        except BaseException:
            self.close()
            raise

    def execute(
        self, command: str, deadline: Deadline, arguments: dict[str, object] | None = None
    ) -> Any:
        """Run one monitor command and return its answer."""
        return self._await(self._client.execute(command, arguments), deadline)

    def human(self, line: str, deadline: Deadline) -> str:
        """Run one line of the human monitor: for what QMP has no command."""
        arguments: dict[str, object] = {"command-line": line}
        return str(self.execute("human-monitor-command", deadline, arguments))

    def close(self) -> None:
        """Hang up.  Safe to call twice and after QEMU is gone."""
        if self._closed:
            return
        self._closed = True
        if self._client is not None:
            asyncio.run_coroutine_threadsafe(self._disconnect(), self._loop)
        self._loop.call_soon_threadsafe(self._loop.create_task, self._stop())
        self._thread.join(timeout=2)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    async def _connect(self, sock: socket.socket) -> None:
        client = QMPClient("dunelab")
        await client.connect(sock)
        self._client = client

    async def _disconnect(self) -> None:
        # An error here means QEMU has gone: hung up already, which was wanted.
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._client.disconnect()

    async def _stop(self) -> None:
        others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        _done, pending = await asyncio.wait(others, timeout=1) if others else (set(), set())
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        self._loop.stop()

    def _await(self, work: Coroutine[Any, Any, Any], deadline: Deadline) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout=deadline.remaining())
        except TimeoutError as error:
            future.cancel()
            raise DeadlineExpired(
                f"QEMU's monitor did not answer within {deadline.seconds:.1f} s "
                f"(waiting for {deadline.what})"
            ) from error
        except ExecuteError as error:
            raise EngineFailed(f"QEMU refused a monitor command: {error}") from error
        except (QMPError, OSError, EOFError) as error:
            raise EngineFailed(f"lost QEMU's monitor: {error or type(error).__name__}") from error
