"""Lists the licences of all pinned dependencies, as the packages themselves state them, the copyleft ones first.

    python tools/list_licences.py constraints.txt constraints-beam.txt --out=docs/licences.md

All that the files name must be installed, in whatever version: licences are read from the installed packages, and versions from
the files.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import maskgan_jax.javascript
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import write_text

COPYLEFT = re.compile(r"GPL|MPL|EPL|CDDL|EUPL|GNU|Mozilla")
# What wheels carry beside the package itself; their licences are told in the wheel's own files only.
CARRIED = {
    "av": "FFmpeg with x264 and x265, GPL-2.0-or-later",
    "opencv-python-headless": "FFmpeg, LGPL-2.1-or-later",
    "pillow-heif": "libheif and libde265, LGPL-3.0-or-later, and x265, GPL-2.0-or-later",
}
HEAD = """# Licences of the dependencies

Made by `python tools/list_licences.py {files} --out=docs/licences.md`
from the metadata of the installed packages; the versions are the pinned ones, of the first of these files that names a package.
None of them is part of this package. The licences of weights and data are in the [README](../README.md#licences).

Known vulnerabilities of the pinned versions, on a machine that reaches pypi.org:

```
pip install pip-audit
for file in constraints*.txt; do pip-audit --no-deps --disable-pip -r $file; done
```

It must end with `No known vulnerabilities found`. "Dependency not found on PyPI" means that the network is missing: then
nothing was checked.

## Copyleft

| package | version | licence |
|---|---|---|
"""
MIDDLE = """
Using them obliges you to nothing. Anyone who distributes them together with this program must comply with their licences. Many
wheels also carry GCC's runtime libraries, GPL with an exception for such use.

## All others

| package | version | licence |
|---|---|---|
"""
# The lock file of the JavaScript libraries.
JAVASCRIPT = Path(maskgan_jax.javascript.__file__).parent / "package-lock.json"


def licence_of(package: str) -> str:
    """The licence of an installed package: an SPDX expression if it tells one, else what it says.

    Raises:
      UserError: it is not installed.
    """
    try:
        told = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(f"{package} is pinned, but not installed; install it, or leave out the file that names it") from error
    text = " ".join((told.get("License") or "").split())
    classes = [kind.rpartition(" :: ")[2] for kind in told.get_all("Classifier", []) if kind.startswith("License :: ")]
    return told.get("License-Expression") or (text if len(text) <= 40 else "") or ", ".join(classes) or text[:40] or "not told"


def pinned(path: str) -> dict[str, str]:
    """The packages of a file of constraints and their versions, by their names in lower case with hyphens.

    Raises:
      UserError: it cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({getattr(error, 'strerror', error)}); give files of constraints") from error
    pins = [re.match(r"\s*([\w.-]+)\s*==\s*([^\s;]+)", line) for line in lines]
    return {re.sub(r"[-_.]+", "-", pin[1].lower()): pin[2] for pin in pins if pin}


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags and writes the list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("files", nargs="+", metavar="CONSTRAINTS")
    parser.add_argument("--out", required=True, metavar="FILE.md")
    flags = parser.parse_args(arguments)
    pins: dict[str, str] = {}
    for path in flags.files:
        pins = pinned(path) | pins
    licences = {name: licence_of(name) for name in sorted(pins)}
    copyleft = {name: licence for name, licence in licences.items() if COPYLEFT.search(licence)}
    copyleft |= {name: f"{licences[name]}; its wheels carry {what}" for name, what in CARRIED.items() if name in pins}
    text = HEAD.format(files=" ".join(flags.files))
    text += "".join(f"| **{name}** | {pins[name]} | {licence} |\n" for name, licence in copyleft.items()) + MIDDLE
    text += "".join(f"| {name} | {pins[name]} | {licence} |\n" for name, licence in licences.items() if name not in copyleft)
    text += "\n## JavaScript, fetched by `maskgan javascript`\n\n| package | version | licence |\n|---|---|---|\n"
    for path, package in json.loads(JAVASCRIPT.read_text(encoding="utf-8"))["packages"].items():
        if path:
            text += f"| {path.rpartition('node_modules/')[2]} | {package['version']} | {package.get('license', 'not told')} |\n"
    write_text(flags.out, text)
    print(f"{len(pins)} packages, {len(copyleft)} of them copyleft, are in {flags.out}")


if __name__ == "__main__":
    sys.exit(exit_code("list_licences", main))
