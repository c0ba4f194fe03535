"""`maskgan unmask`: masked faces in, unmasked faces out."""

from __future__ import annotations

import argparse

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
        "--aligned", action="store_true", help="the inputs are square, aligned crops as `maskgan build` makes them"
    )
    parser.add_argument("--mask", metavar="DIR", help="regions of the same names, 255 = hidden: known pixels are put back")
    flags = parser.parse_args(arguments)
    if not flags.aligned:
        raise UserError("only aligned crops can be unmasked so far; align the faces and give --aligned")

    from maskgan_jax.unmasking.aligned import unmask_aligned  # JAX takes seconds to start; a mistyped flag should not.

    done, failed = unmask_aligned(flags.inputs, flags.out, flags.weights, flags.mask)
    if not done:
        raise UserError("nothing was unmasked, because none of the inputs could be used; the lines above say why")
    print(f"unmasked faces are in {flags.out}" + (f"; {failed} inputs could not be used" if failed else ""))
    return 1 if failed else 0
