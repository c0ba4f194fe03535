"""How close a set of images is as a whole to the real ones: what no single image can tell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def frechet_distance(features: np.ndarray, real: np.ndarray) -> float:
    """The Frechet distance of two normal distributions with the means and covariances of features (Dowson and Landau 1982).

    As in FID (Heusel et al. 2017), which takes it on features of Inception. It falls as sets grow: compare only sets of one
    size, of thousands of images.

    Args:
      features: `[N, F]`, N at least 2.
      real: `[M, F]`, M at least 2.
    """
    means, roots = [], []
    for x in map(np.float64, (features, real)):
        means.append(x.mean(0))
        # `root.T @ root` is the covariance.
        roots.append(np.linalg.qr((x - means[-1]) / np.sqrt(len(x) - 1), mode="r"))
    # The trace of the root of the product of two such matrices is a sum of singular values, be they singular or not.
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return float(np.square(means[0] - means[1]).sum() + sum(np.square(root).sum() for root in roots) - 2 * shared)


# The scores of sets, by their names in results: functions of features of the images and of the real ones, `[N, 256]` each, N at
# least 2. Features are means over the image of the last layer of ST-LPIPS's AlexNet. (FID's Inception comes in no package.)
SET_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"frechet_st_alexnet": frechet_distance}
