"""`maskgan page`: a site that removes masks in the browser."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from maskgan_jax.errors import UserError
from maskgan_jax.runtime.ports import port
from maskgan_jax.runtime.signals import sigterm_interrupts

PORT = 8000


@sigterm_interrupts()
def main(arguments: list[str]) -> None:
    """Reads the flags; writes the site, serves it, or both."""
    parser = argparse.ArgumentParser(
        prog="maskgan page",
        allow_abbrev=False,
        description="Writes a static site that removes masks in the browser, where photos stay: nothing is uploaded. It needs "
        "the extra `onnx` and, once, `maskgan javascript` and `maskgan weights`. docs/page.md tells more.",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="writes the site to this folder, which must not be there yet")
    parser.add_argument(
        "--serve",
        type=port,
        nargs="?",
        const=PORT,
        metavar="PORT",
        help=f"serves the site on this machine, until Ctrl-C (default port: {PORT}; 0: any free one); the folder of --out may "
        "hold a site already, and without --out it is a temporary one",
    )
    flags = parser.parse_args(arguments)
    if flags.out is None and flags.serve is None:
        parser.error("give --out=DIR to write the site, --serve to look at it, or both")

    # They take seconds to import; a mistyped flag should not.
    from maskgan_jax.page.server import create_server
    from maskgan_jax.page.site import write_site

    with tempfile.TemporaryDirectory(prefix="maskgan-page-") as temporary:
        folder = flags.out or Path(temporary) / "site"
        if flags.serve is None:
            write_site(folder)
            print(f"the site is in {folder}; `maskgan page --out={folder} --serve` serves it")
            return
        with create_server(folder, flags.serve) as server:
            if not (folder / "site.json").is_file():
                if folder.exists():
                    raise UserError(f"{folder} holds something else than a site; give --out another name")
                print("writing the site ...", flush=True)
                write_site(folder)
            print(f"the page is at http://localhost:{server.server_port}/ until Ctrl-C", flush=True)
            server.serve_forever()
