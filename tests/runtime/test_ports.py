"""Ports: which are read, and what is said of those that are taken."""

import argparse
import re
import socket

import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.runtime import ports


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("8000", 8000), ("65535", 65535)])
def test_ports(text, number):
    assert ports.port(text) == number


@pytest.mark.parametrize("text", ["-1", "65536", "door", "", "8000.0"])
def test_no_ports(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^'{re.escape(text)}' is no port from 0 to 65535$"):
        ports.port(text)


def test_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as other, socket.socket() as listener:
        port = other.getsockname()[1]
        with (
            pytest.raises(UserError, match=rf"^cannot listen on 127.0.0.1 port {port} \(.* in use\); give another --p$"),
            ports.binding("127.0.0.1", port, "--p"),
        ):
            listener.bind(("127.0.0.1", port))
