"""Colours as files store them, written down from the standards: sRGB, Display P3, PQ and HLG."""

import numpy as np

# From linear BT.709 (and sRGB) to other primaries (ITU-R BT.2087; SMPTE EG 432-1 for P3).
TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
TO_P3 = np.array([[0.8225, 0.1774, 0.0], [0.0332, 0.9669, 0.0], [0.0171, 0.0724, 0.9108]])


def linear(srgb):
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def srgb(light):
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


def pq(nits):
    y = np.clip(nits / 10000, 0, 1) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg(light):
    """Of scene light, of which 0.265 has the signal 0.75 of white."""
    e = light * 0.2650
    return np.where(e <= 1 / 12, np.sqrt(3 * e), 0.17883277 * np.log(np.maximum(12 * e - 0.28466892, 1e-9)) + 0.55991073)


# How the colours of an image are stored, by what tells them.
STORED = {
    "pq": lambda light: pq(light @ TO_2020.T * 203),
    "hlg": lambda light: hlg(light @ TO_2020.T),
    "p3": lambda light: srgb(light @ TO_P3.T),
    "gamma 1": lambda light: light,
}
