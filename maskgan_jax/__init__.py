"""Removes face masks from pictures of people: a JAX implementation of Yoshihashi et al. (2022).

`from maskgan_jax import Unmasker; Unmasker.from_pretrained()(photo)` is all of it for one photo.
"""

__version__ = "0.1.0"
__all__ = ["Unmasker"]


def __getattr__(name: str):
    # JAX takes seconds to start, and most modules do without.
    if name == "Unmasker":
        from maskgan_jax.unmasking.unmasker import Unmasker

        return Unmasker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
