"""Removes face masks from pictures of people: a JAX implementation of Yoshihashi et al. (2022)."""

__version__ = "0.1.0"
