from maskgan_jax.data.masks.draw import DrawnMask as DrawnMask
from maskgan_jax.data.masks.draw import draw_mask as draw_mask
