"""Signatures of thoughts, which Anthropic's clients expect and send back.

A signature proves nothing here: a thought that comes back is text like any other, whoever wrote it. So it is the digest of the
thought, without a key, and none is ever refused: users change providers in the middle of a conversation. Where the client does
not want to see the thought, the signature carries it.
"""

from __future__ import annotations

import binascii
import zlib
from base64 import b64decode, b64encode
from hashlib import sha256

_DIGEST = "corral.1."
_CARRIER = "corral.2."
_MOST_BYTES = 1 << 20  # of a thought that a signature carries


def signature(thought: str) -> str:
    """The signature of a thought that stands beside it.

    >>> signature("2 and 3 is 5")
    'corral.1.kyBTxMwcKthY38Nt8GnnNwM1/pWMdeJ8jvD1J0NtShI='
    """
    return _DIGEST + b64encode(sha256(thought.encode(errors="replace")).digest()).decode()


def carrier(thought: str) -> str:
    """A signature that carries its thought.

    >>> restored(carrier("2 and 3 is 5"))
    '2 and 3 is 5'
    """
    return _CARRIER + b64encode(zlib.compress(thought.encode(errors="replace")[:_MOST_BYTES])).decode()


def restored(signed: str) -> str:
    """The thought that ``signed`` carries; nothing where it carries none, or is not ours.

    >>> restored(signature("secret")), restored("EqQBCgIYAhIkN2Y"), restored("corral.2.####")
    ('', '', '')
    """
    if not signed.startswith(_CARRIER):
        return ""
    try:
        data = b64decode(signed.removeprefix(_CARRIER), validate=True)
        return zlib.decompressobj().decompress(data, _MOST_BYTES).decode(errors="replace")
    except (binascii.Error, ValueError, zlib.error):
        return ""
