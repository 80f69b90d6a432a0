# SPDX-License-Identifier: MIT
"""What a run leaves behind: parsers of guest output, and the written results.

The parsers (``ktap``, ``splat``, ``symbols``) are pure functions on text or
bytes.  ``schema`` holds the nouns of a result, ``report`` writes and prints
them.  Nothing here starts a machine.
"""
