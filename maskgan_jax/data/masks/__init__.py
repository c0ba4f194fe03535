from maskgan_jax.data.masks.camera import Compression as Compression
from maskgan_jax.data.masks.draw import DrawnMask as DrawnMask
from maskgan_jax.data.masks.draw import draw_mask as draw_mask
from maskgan_jax.data.masks.fit import check_masks as check_masks
from maskgan_jax.data.masks.fit import fit_mask as fit_mask
