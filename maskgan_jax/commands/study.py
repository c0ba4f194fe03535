"""`maskgan study`: a study in which people judge the results: its server, its report, and simulated raters."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

from maskgan_jax.errors import UserError
from maskgan_jax.files import check_writable, write_json
from maskgan_jax.runtime.ports import port
from maskgan_jax.study.exclusion import RULE

# Of each package of the extra, its module.
_EXTRA = ("flask", "krippendorff", "matplotlib", "waitress")


def main(arguments: list[str]) -> None:
    """Runs one of the commands of the study."""
    parser = argparse.ArgumentParser(
        prog="maskgan study",
        description="A study in which people judge what methods made of faces: expression and quality of each, which of two "
        "looks more real, and whether one is real.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_report(commands)
    _add_simulate(commands)
    options = parser.parse_args(arguments)
    if missing := [name for name in _EXTRA if not importlib.util.find_spec(name)]:
        raise UserError(f"the study needs {', '.join(missing)}; install them with: pip install 'maskgan_jax[study]'")
    {"serve": _serve, "report": _report, "simulate": _simulate}[options.command](options)


def _add_serve(commands) -> None:
    parser = commands.add_parser(
        "serve",
        help="serve the study as a web page",
        description="Serves the study as a web page and keeps the answers in a database. The same command goes on with it.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--images",
        nargs="+",
        action="extend",
        default=[],
        type=_method,
        metavar="METHOD=DIR",
        help="what each method made of the faces",
    )
    parser.add_argument("--real", required=True, metavar="DIR", help="the real faces, under the same names")
    parser.add_argument("--masked", metavar="DIR", help="the faces with masks on, as the anchor 'masked'")
    parser.add_argument(
        "--mask", metavar="DIR", help="the masks, above 127 = hidden: draws the anchor 'telea' on the masked faces"
    )
    parser.add_argument("--expressions", metavar="FILE.csv", help="true expressions: columns `file` and `expression`")
    parser.add_argument("--db", required=True, metavar="FILE", help="the database; made if it is not there")
    parser.add_argument("--consent", metavar="FILE.txt", help="another text for the first page; empty lines part paragraphs")
    _add_design(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this computer only)")
    parser.add_argument("--port", type=port, default=8000, help="default: 8000; 0 takes a free one")


def _whole(value: str) -> int:
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r} is no whole number from 0")
    return int(value)


def _add_report(commands) -> None:
    parser = commands.add_parser(
        "report",
        help="tables, plots and files from the answers",
        description="Writes report.html, report.json, answers.csv and datapackage.json (what the columns are) from a study.",
        allow_abbrev=False,
    )
    parser.add_argument("--db", required=True, metavar="FILE", help="the database of the study; it may be in use")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the report is written")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap (default: 1000)")
    parser.add_argument(
        "--machine",
        action="store_true",
        help="also let a classifier of expressions judge all images, where they lay when the study began",
    )


def _add_simulate(commands) -> None:
    parser = commands.add_parser(
        "simulate",
        help="simulated raters: a study to try the report on, or how many raters a difference takes",
        description="With --db, writes a study that simulated raters of known truth have answered. With --power, prints in how "
        "many of such studies a difference between two methods shows.",
        allow_abbrev=False,
    )
    parser.add_argument("--db", metavar="FILE", help="where the study is written")
    parser.add_argument("--raters", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--careless", type=int, default=0, help="so many of them answer at random (default: 0)")
    parser.add_argument("--faces", type=int, default=120, help="how many there are to choose from (default: 120)")
    parser.add_argument(
        "--power",
        type=_named_numbers(float),
        metavar="WHAT=DIFFERENCE,...",
        help="quality=0.5 (points), accuracy=0.05 or choice=0.1 (fraction beyond one half)",
    )
    parser.add_argument("--out", metavar="FILE.json", help="also write the power here")
    _add_design(parser)


def _add_design(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tasks",
        type=_named_numbers(int),
        default={"rating": 10},
        metavar="TASK=N,...",
        help="rating=N, real=N: images of each method that a rater sees; pair=N: of each two methods (default: rating=10)",
    )
    parser.add_argument("--repeats", type=int, default=3, help="trials of each task that come again (default: 3)")
    parser.add_argument("--seed", type=_whole, default=0, help="of order, sides and assignment (default: 0)")
    parser.add_argument(
        "--exclude",
        type=_named_numbers(float),
        default={},
        metavar="RULE=LIMIT,...",
        help="when a rater is left out, fixed at the start; docs/study.md explains the rules (default: "
        f"{','.join(f'{rule}={limit:g}' for rule, limit in RULE.items())})",
    )


def _method(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    if not name.strip() or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not METHOD=DIR")
    return name, folder


def _named_numbers(kind: Callable[[str], float]) -> Callable[[str], dict[str, float]]:
    def read(text: str) -> dict[str, float]:
        try:
            pairs = [part.partition("=") for part in text.split(",")]
            numbers = {name: kind(number) for name, _, number in pairs}
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER,...") from error
        if len(numbers) < len(pairs):
            raise argparse.ArgumentTypeError(f"{text!r} has a name twice")
        return numbers

    return read


def _serve(options: argparse.Namespace) -> None:
    from maskgan_jax.runtime import signals
    from maskgan_jax.runtime.lock import locked
    from maskgan_jax.study.images import find_images
    from maskgan_jax.study.server import LOOPBACK, create_app, listen, serve
    from maskgan_jax.study.start import open_study

    names = [name for name, _ in options.images]
    if len(set(names)) < len(names):
        raise UserError("--images has a method twice; give each another name")
    check_writable(options.db)
    lock = Path(f"{os.path.realpath(options.db)}-lock")
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(
                locked(lock, f"another `maskgan study serve` uses {options.db}; end it, or give another --db")
            )
        except OSError as error:
            raise UserError(f"cannot lock {lock} ({error.strerror}); check the folder's permissions") from error
        stack.callback(lock.unlink, missing_ok=True)  # While it is still held.
        if not held:
            print(f"the folder of {options.db} has no locks: see to it that no other `maskgan study serve` uses it", flush=True)
        # First, so that a port in use leaves no study behind.
        listener = stack.enter_context(listen(options.host, options.port))
        images = find_images(dict(options.images), options.real, options.masked, options.mask)
        database = open_study(
            options.db,
            images,
            tasks=options.tasks,
            repeats=options.repeats,
            seed=options.seed,
            exclusion=options.exclude,
            expressions=options.expressions,
            consent=options.consent,
        )
        app = create_app(database, images, options.host)
        with signals.sigterm_interrupts():
            serve(app, listener, options.host, None if options.host in LOOPBACK else database.secret)


def _report(options: argparse.Namespace) -> None:
    from maskgan_jax.study.database import Database
    from maskgan_jax.study.report import write_study_report

    if options.resamples < 100:
        raise UserError("--resamples must be at least 100, for intervals that mean something")
    database = Database(options.db)
    check_writable(Path(options.out) / "report.html")
    path = write_study_report(database, options.out, resamples=options.resamples, machine=options.machine)
    print(f"the report is in {path}")


def _simulate(options: argparse.Namespace) -> None:
    from maskgan_jax.study.simulation import power_table, simulate_study

    if bool(options.db) == bool(options.power):
        raise UserError("give --db, for a study with simulated raters, or --power, for how many raters a difference takes")
    if options.power:
        if options.out:
            check_writable(options.out)
        table = power_table(options.power, faces=options.faces, seed=options.seed)
        for what, rows in table.items():
            print(f"{what}: a difference of {options.power[what]:g}; found at the level 0.05 in a fraction of studies of")
            for raters, of_raters in rows.items():
                of_images = ", ".join(f"{images} images: {power:.2f}" for images, power in of_raters.items())
                print(f"  {raters:>3} raters and, of each method, {of_images}")
        if options.out:
            write_json(options.out, table)
        return
    simulate_study(
        options.db,
        raters=options.raters,
        faces=options.faces,
        tasks=options.tasks,
        repeats=options.repeats,
        seed=options.seed,
        exclusion=options.exclude,
        careless=options.careless,
    )
    print(f"{options.raters} simulated raters have answered; the study is in {options.db}")
