"""`maskgan unmask`: masked faces in, unmasked faces out."""

from __future__ import annotations

import argparse

from maskgan_jax.allocator import compute_in_main_thread
from maskgan_jax.errors import UserError


def main(arguments: list[str]) -> int:
    """Reads the flags, unmasks, says where the results are; 1 if some inputs could not be used."""
    parser = argparse.ArgumentParser(
        prog="maskgan unmask", description="Removes the masks from pictures of faces.", allow_abbrev=False
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="picture file or folder of pictures")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results, PNG under the same names")
    parser.add_argument("--weights", required=True, metavar="PATH", help="workdir of a run, or an exported .safetensors file")
    parser.add_argument(
        "--aligned", action="store_true", help="the inputs are square, aligned crops as `maskgan build` makes them, not photos"
    )
    parser.add_argument("--mask", metavar="DIR", help="regions of the same names and sizes, 255 = hidden: no others change")
    parser.add_argument(
        "--shape_predictor",
        default="",
        metavar="FILE",
        help="dlib file with 68 points, best one of tools/retrain_shape_predictor.py; without it dlib's own, for bare faces",
    )
    flags = parser.parse_args(arguments)
    if flags.aligned and flags.shape_predictor:
        raise UserError("--shape_predictor is for whole photos; leave it out with --aligned, where the faces are found already")

    # JAX takes seconds to start; a mistyped flag should not.
    compute_in_main_thread()
    if flags.aligned:
        from maskgan_jax.unmasking.aligned import unmask_aligned

        done, failed = unmask_aligned(flags.inputs, flags.out, flags.weights, flags.mask)
    else:
        from maskgan_jax.unmasking.photos import unmask_photos

        done, failed = unmask_photos(flags.inputs, flags.out, flags.weights, flags.mask, flags.shape_predictor)
    if not done:
        raise UserError("nothing was unmasked, because none of the inputs could be used; the lines above say why")
    print(f"unmasked faces are in {flags.out}" + (f"; {failed} inputs could not be used" if failed else ""))
    return 1 if failed else 0
