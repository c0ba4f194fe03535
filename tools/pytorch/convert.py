"""Converts generators to and from pytorch-CycleGAN-and-pix2pix: see maskgan_jax/pytorch/convert.py."""

import sys

from maskgan_jax.errors import exit_code
from maskgan_jax.pytorch.convert import main

if __name__ == "__main__":
    sys.exit(exit_code("convert.py", main))
