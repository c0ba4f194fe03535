"""`maskgan unmask`: photos and videos of people with masks in, the same without masks out."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from types import ModuleType

from maskgan_jax.errors import UserError
from maskgan_jax.runtime.allocator import compute_in_main_thread
from maskgan_jax.runtime.signals import sigterm_interrupts
from maskgan_jax.unmasking.batch import unmask_each
from maskgan_jax.unmasking.face import LEAST_WIDTH
from maskgan_jax.unmasking.inputs import Job, find_jobs
from maskgan_jax.unmasking.labels import Credentials
from maskgan_jax.unmasking.outputs import EXTRAS, Outputs
from maskgan_jax.weights.fetch import weight_file

# Faces in a contact sheet, at most.
SHEET_FACES = 200


def main(arguments: list[str]) -> int:
    """Reads the flags, unmasks, says where the results are; returns 1 if some inputs could not be used."""
    parser = _parser()
    flags = parser.parse_args(arguments)
    _check(parser, flags)
    # JAX takes seconds to start; a mistyped flag or file should not.
    if flags.step != "best":
        from maskgan_jax.networks.stored import checkpoint_of

        flags.weights = checkpoint_of(flags.weights, flags.step)
    outputs = Outputs(
        Path(flags.out),
        **{extra: getattr(flags, extra) for extra in EXTRAS},
        keep_metadata=flags.metadata == "keep",
        label=flags.label,
        credentials=Credentials(flags.c2pa) if flags.c2pa else None,
        mark=flags.mark,
        overwrite=flags.overwrite,
        resume=flags.resume,
    )
    if flags.camera is not None:
        return _camera(flags, outputs)
    if flags.aligned:
        return _aligned(flags, outputs)
    jobs = find_jobs(flags.inputs, outputs, flags.mask)
    if not jobs:
        print(f"all results are in {flags.out} already")
        return 0
    sheet = outputs.contact_sheet(flags.inputs, jobs)
    # Every input needs these, so that a fault is reported once.
    weight_file("centerface.onnx")
    with outputs.in_folder():
        return _files(flags, outputs, jobs, sheet)


@sigterm_interrupts()
def _files(flags: argparse.Namespace, outputs: Outputs, jobs: list[Job], sheet: Path | None) -> int:
    compute_in_main_thread()
    from maskgan_jax.unmasking.photos import unmask_photo, write_contact_sheet
    from maskgan_jax.unmasking.unmasker import Unmasker

    def fast(job: Job) -> bool:
        return flags.fast if flags.fast is not None else job.is_video and not flags.weights

    unmaskers = {
        chosen: Unmasker.from_pretrained(flags.weights, fast=chosen, least_width=flags.min_face, most_faces=flags.faces)
        for chosen in set(map(fast, jobs))
    }
    shown = []

    def unmask(job: Job) -> str:
        outputs.check_one(job)  # Before the work; and again when it is written.
        if job.is_video:
            return _video().unmask_video(job, unmaskers[fast(job)], outputs)
        line, faces = unmask_photo(job, unmaskers[fast(job)], outputs)
        shown.extend([face for face in faces if face.redrawn][: SHEET_FACES - len(shown)])
        return line

    failed = unmask_each(jobs, unmask)
    if sheet and shown:
        outputs.refuse_to_replace([sheet])  # Another run may have written it meanwhile.
        write_contact_sheet(sheet, shown, label=flags.label)
        print(f"the faces{' of this run' if flags.resume else ''}, before and after, are in {sheet}")
    print(f"results are in {flags.out}" + (f"; {failed} of {len(jobs)} inputs could not be used" if failed else ""))
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="maskgan unmask",
        description="Removes the masks from photos and videos of people. What it draws is a plausible face, not the person's.",
        allow_abbrev=False,
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="image or video file, or folder of them")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results, under the same names")
    parser.add_argument(
        "--weights", metavar="PATH", help="workdir of a run, or an exported .safetensors file; without it, the package's own"
    )
    parser.add_argument(
        "--step", default="best", metavar="best|last|N", help="of the run in --weights: which checkpoint (default: best)"
    )
    parser.add_argument(
        "--fast",
        action=argparse.BooleanOptionalAction,
        help="take the package's coarser, faster network (default: for videos and cameras, not for photos)",
    )
    parser.add_argument(
        "--aligned", action="store_true", help="the inputs are square, aligned crops as `maskgan build` makes them, not photos"
    )
    parser.add_argument(
        "--mask", metavar="DIR", help="masks of the same names and sizes, 255 = hidden (or one file): nothing else changes"
    )
    parser.add_argument(
        "--faces", type=_faces, metavar="all|largest|N", help="redraw all faces, or the N largest of each input (default: all)"
    )
    parser.add_argument(
        "--min_face",
        type=_pixels,
        default=LEAST_WIDTH,
        metavar="PIXELS",
        help=f"leave narrower faces alone (default: {LEAST_WIDTH})",
    )
    parser.add_argument("--camera", type=int, metavar="N", help="unmask what camera N sees, until Ctrl-C")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    parser.add_argument("--resume", action="store_true", help="leave out inputs whose results are complete: go on after a stop")
    parser.add_argument("--side_by_side", action="store_true", help="also write before and after in one image or video")
    parser.add_argument("--crops", action="store_true", help="also write each unmasked face of photos, before and after")
    parser.add_argument("--regions", action="store_true", help="also write what was redrawn in photos, 255 where")
    parser.add_argument(
        "--metadata",
        choices=["keep", "drop"],
        default="keep",
        help="whether metadata, such as EXIF, XMP, comments and titles, are kept (default: keep)",
    )
    parser.add_argument(
        "--no_label", dest="label", action="store_false", help="do not label the results as synthetic in their metadata"
    )
    parser.add_argument(
        "--c2pa",
        metavar="FILE.pem",
        help="sign results with a C2PA manifest: file of certificates and key, or `test` for a certificate that nobody trusts",
    )
    parser.add_argument("--mark", action="store_true", help="draw a visible mark into the lower right corner of results")
    return parser


def _faces(value: str) -> int | None:
    """How many faces `--faces` asks for; None for all."""
    if value == "all":
        return None
    number = 1 if value == "largest" else int(value) if value.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is neither all, largest nor a number from 1")
    return number


def _pixels(value: str) -> int:
    if not value.isdecimal() or not int(value):
        raise argparse.ArgumentTypeError(f"{value!r} is no width in pixels; give a whole number from 1 on")
    return int(value)


def _check(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    """Ends the program, with code 2, for flags that are empty or do not go together."""
    for flag in ("out", "mask", "weights", "c2pa"):
        if getattr(flags, flag) == "":
            parser.error(f"--{flag} is empty; give a path")
    if "" in flags.inputs:
        parser.error("an INPUT is empty; give the path of an image, a video or a folder")
    if bool(flags.inputs) == (flags.camera is not None):
        parser.error("give images, videos or folders to unmask, or --camera=N")
    if flags.fast is not None and flags.weights is not None:
        parser.error("--fast chooses between the package's networks, and --weights is another; leave one of them out")
    if flags.step != "best" and flags.weights is None:
        parser.error("--step is of the run that --weights names; give both")
    if flags.resume and flags.overwrite:
        parser.error("--resume leaves results alone, and --overwrite replaces them; leave one of them out")
    if flags.aligned or flags.camera is not None:
        what = "--aligned" if flags.camera is None else "--camera"
        others = ["faces", "min_face"] if flags.camera is None else ["aligned", "mask"]
        for flag in (*EXTRAS, "metadata", "c2pa", "mark", "resume", *others):
            if getattr(flags, flag) != parser.get_default(flag):
                parser.error(f"--{flag} does not go with {what}; leave one of them out")


@sigterm_interrupts()
def _aligned(flags: argparse.Namespace, outputs: Outputs) -> int:
    compute_in_main_thread()
    from maskgan_jax.unmasking.aligned import unmask_aligned

    with outputs.in_folder():
        failed = unmask_aligned(flags.inputs, outputs, flags.weights, flags.mask, fast=bool(flags.fast))
    print(f"unmasked faces are in {flags.out}" + (f"; {failed} inputs could not be used" if failed else ""))
    return 1 if failed else 0


def _video() -> ModuleType:
    """The module for videos. Raises UserError if PyAV, which it needs, is not installed."""
    try:
        importlib.import_module("av")
    except ImportError as error:
        raise UserError("videos need PyAV: pip install 'maskgan_jax[video]'") from error
    return importlib.import_module("maskgan_jax.unmasking.video")


def _camera(flags: argparse.Namespace, outputs: Outputs) -> int:
    path = outputs.camera(flags.camera)
    compute_in_main_thread()
    from maskgan_jax.unmasking.unmasker import Unmasker

    video = _video()
    unmasker = Unmasker.from_pretrained(
        flags.weights, fast=flags.fast is not False, least_width=flags.min_face, most_faces=flags.faces
    )
    with outputs.in_folder():
        print(video.unmask_camera(flags.camera, unmasker, path, label=flags.label))
    return 0
