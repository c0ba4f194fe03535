"""Ports that commands serve on."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

from maskgan_jax.errors import UserError


def port(text: str) -> int:
    """The type of a flag for a port, from 0 (any free one) to 65535."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 0 to 65535")
    return int(text)


@contextlib.contextmanager
def binding(host: str, port: int, flags: str) -> Iterator[None]:
    """For the block that takes an address to listen on.

    Args:
      host, port: the address.
      flags: which flags give another one.

    Raises:
      UserError: the address is not of this machine, is in use, or is not allowed.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on {host} port {port} ({why}); give another {flags}") from error
