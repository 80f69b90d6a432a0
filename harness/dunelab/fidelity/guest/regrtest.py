# SPDX-License-Identifier: MIT
"""CPython's test runner, saying what each test's end was as soon as it is there.

Runs in a guest, by the interpreter under test: regrtest.py ARGUMENT...  Each
line of $DUNELAB_EVENTS is a JSON object: {"start": ID}, or {"end": ID,
"outcome": WORD, "why": TEXT}.
"""

import json
import os
import sys

EVENTS = os.environ.pop("DUNELAB_EVENTS", os.devnull)
PID = os.getpid()
WHY_CHARACTERS = 4000

# Tests replace these in their modules.
_open, _write, _close, _getpid = os.open, os.write, os.close, os.getpid
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC


def say(event):
    """Add one line, unless this is the child of a fork."""
    if _getpid() != PID:
        return
    fd = _open(EVENTS, _FLAGS)
    try:
        _write(fd, (json.dumps(event) + "\n").encode())
    finally:
        _close(fd)


def install():
    """Put a result class that tells in the place of regrtest's."""
    from test.libregrtest import testresult

    class Teller(testresult.RegressionTestResult):
        def startTest(self, test):
            self.told = None
            say({"start": test.id()})
            super().startTest(test)

        def tell(self, test, outcome, why=""):
            self.told = test.id()
            say({"end": test.id(), "outcome": outcome, "why": str(why)[-WHY_CHARACTERS:]})

        def addSuccess(self, test):
            self.tell(test, "ok")
            super().addSuccess(test)

        def addError(self, test, err):
            self.tell(test, "failed", self._exc_info_to_string(err, test))
            super().addError(test, err)

        def addFailure(self, test, err):
            self.tell(test, "failed", self._exc_info_to_string(err, test))
            super().addFailure(test, err)

        def addSkip(self, test, reason):
            self.tell(test, "skipped", reason)
            super().addSkip(test, reason)

        def addExpectedFailure(self, test, err):
            self.tell(test, "expected failure")
            super().addExpectedFailure(test, err)

        def addUnexpectedSuccess(self, test):
            self.tell(test, "unexpected success")
            super().addUnexpectedSuccess(test)

        def addSubTest(self, test, subtest, err):
            if err is not None:
                self.tell(test, "failed", self._exc_info_to_string(err, test))
            super().addSubTest(test, subtest, err)

    testresult.RegressionTestResult = Teller


if __name__ == "__main__":
    from test.libregrtest.main import main

    install()
    main()
    sys.exit(0)
