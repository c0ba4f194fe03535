"""`maskgan page`: flags, and serving until Ctrl-C."""

import functools
import http.client
import os
import re
import signal
import subprocess
import sys

import pytest

from maskgan_jax.__main__ import main


@pytest.mark.parametrize(
    "flags, words",
    [
        ([], "give --out=DIR to write the site, --serve to look at it, or both"),
        (["--serve=70000"], "'70000' is no port from 0 to 65535"),
        (["--serve=door"], "'door' is no port from 0 to 65535"),
    ],
)
def test_wrong_usage(flags, words, capsys):
    with pytest.raises(SystemExit) as end:
        main(["page", *flags])
    assert end.value.code == 2
    assert words in capsys.readouterr().err


def test_a_folder_of_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    assert main(["page", f"--out={tmp_path}", "--serve=0"]) == 1
    printed = capsys.readouterr()
    assert (
        f"{tmp_path} holds something else than a site; give --out another name" in printed.err and "writing" not in printed.out
    )
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_a_site_that_is_there_until_it_is_stopped(tmp_path, number):
    """By Ctrl-C, or by SIGTERM. The folder that would be of a site without --out goes, too."""
    site, temporary = tmp_path / "site", tmp_path / "temporary"
    site.mkdir()
    temporary.mkdir()
    (site / "site.json").write_text("{}")
    command = [sys.executable, "-m", "maskgan_jax", "page", f"--out={site}", "--serve=0"]
    # A shell has what it runs in the background, be it these tests, ignore Ctrl-C, and so would the server, for ever.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(command, **pipes, text=True, preexec_fn=heed, env=environment) as process:
        port = int(re.search(r"localhost:(\d+)/", process.stdout.readline())[1])
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/site.json")
        assert connection.getresponse().read() == b"{}"
        assert list(temporary.iterdir()) != []
        process.send_signal(number)
        assert process.wait(20) == 130
        assert "Traceback" not in process.stderr.read()
    assert list(temporary.iterdir()) == []
