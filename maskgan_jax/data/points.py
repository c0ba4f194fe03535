"""dlib's 68 landmarks (iBUG 300-W): the meaning of their numbers. Left and right are as seen in the image."""

import numpy as np

# The contour of the face, from ear to ear over the chin: the points of C1 (Eq. 4).
CONTOUR = slice(0, 17)
LEFT_EYE = slice(36, 42)
RIGHT_EYE = slice(42, 48)

# The number of each point in a mirror: contour, brows, bridge and base of the nose, eyes, outer lips, inner lips.
MIRRORED = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)
