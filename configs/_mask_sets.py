"""Named sets of masks, as values of `data.masks`, `data.mask_patterns` and `data.mask_fit`: {setting: value}."""

_NONE = {"surgical": 0.0, "n95": 0.0, "kn95": 0.0, "cloth": 0.0, "gaiter": 0.0, "bandana": 0.0, "template": 0.0}
_PLAIN = {"plain": 1.0, "stripes": 0.0, "checks": 0.0, "dots": 0.0, "flowers": 0.0, "camouflage": 0.0}

# What MaskTheFace draws (all but its gas mask), in our drawing: plain, stiff, fitted by six points, as the paper's masks were.
# Which of them the paper took how often it does not say.
PAPER = {
    "masks": _NONE | {"surgical": 3.0, "n95": 1.0, "kn95": 1.0, "cloth": 1.0},
    "mask_patterns": _PLAIN,
    "mask_fit": "homography",
    "mask_height": 0.0,
    "mask_looseness": 0.0,
    "mask_below_nose": 0.0,
}
# All there are; the weights are a guess at how often they are seen.
VARIED = {
    "masks": _NONE | {"surgical": 4.0, "n95": 1.0, "kn95": 2.0, "cloth": 3.0, "gaiter": 0.5, "bandana": 0.5},
    "mask_patterns": {"plain": 6.0, "stripes": 0.5, "checks": 0.5, "dots": 1.0, "flowers": 2.0, "camouflage": 1.0},
    "mask_fit": "mesh",
}
# For tests with masks unlike those trained on: train on SEEN, test on UNSEEN. They share no type but cloth, and of it no print.
SEEN = {
    "masks": _NONE | {"surgical": 4.0, "kn95": 2.0, "cloth": 3.0},
    "mask_patterns": _PLAIN | {"plain": 6.0, "stripes": 0.5, "dots": 1.0},
    "mask_fit": "mesh",
}
UNSEEN = {
    "masks": _NONE | {"n95": 1.0, "cloth": 1.0, "gaiter": 1.0, "bandana": 1.0},
    "mask_patterns": _PLAIN | {"plain": 0.0, "checks": 0.5, "flowers": 2.0, "camouflage": 1.0},
    "mask_fit": "mesh",
}
