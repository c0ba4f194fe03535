"""Fetches the npm packages of `package.json`, pinned with digests by `package-lock.json`, into the cache folder."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing_folder
from maskgan_jax.runtime.cache import cache_folder

_PINNED = Path(__file__).parent


def fetch_packages() -> Path:
    """Installs the packages with npm, unless they are there already; returns the folder `node_modules`.

    npm checks each package's SHA-512. No script of a package is run.

    Raises:
      UserError: npm or the network is missing, a package is not the pinned one, or the cache cannot be written.
    """
    folder = _folder()
    if folder.exists():
        return folder / "node_modules"
    if not shutil.which("npm"):
        raise UserError("npm, which fetches the JavaScript libraries, is missing; install Node.js and run `maskgan javascript`")
    with replacing_folder(folder) as temporary:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_PINNED / name, temporary)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(command, cwd=temporary, capture_output=True, text=True, check=False)
        if done.returncode:
            reasons = re.findall(r"^npm (?:error|ERR!) (?!code|A complete log)(.+)", done.stderr, re.M)
            raise UserError(
                f"npm cannot install the JavaScript libraries ({(reasons or ['no reason given'])[0]}); check the network and "
                f"the free space in {folder.parent}"
            )
    return folder / "node_modules"


def package_file(name: str) -> Path:
    """The path of a file of the packages, e.g. `package_file("jspsych/dist/index.browser.min.js")`.

    Raises:
      UserError: the packages have not been fetched.
    """
    folder = _folder()
    if not folder.exists():
        raise UserError("the JavaScript libraries are missing; run `maskgan javascript` once to fetch them (it needs npm)")
    return folder / "node_modules" / name


def _folder() -> Path:
    """Where the packages are kept: other pinned versions are kept beside them."""
    digest = hashlib.sha256((_PINNED / "package-lock.json").read_bytes()).hexdigest()
    return cache_folder() / f"javascript-{digest[:12]}"
