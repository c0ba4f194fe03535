"""A photo of people with masks in, the same photo without the masks out: the whole way, as a function of arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from maskgan_jax.data.align import cut_out, face_square, square_around, to_aligned, to_photo, unalign, unalign_region, zoomed
from maskgan_jax.data.points import eyes
from maskgan_jax.errors import UserError
from maskgan_jax.networks.face_network import FaceNetwork, pretrained
from maskgan_jax.unmasking.detection import Detection, detect_faces

# From the detector's points, each round of the landmark network brings the square closer to where it belongs.
ROUNDS = 3
# A face wears a mask if it covers this share of what lies between the bridge of the nose, the jaw and the chin.
LEAST_COVER = 0.3
# Parts of a region smaller than this share of the aligned square are not of a mask.
LEAST_PART = 0.002
# Holes up to this share are prints and valves; larger ones, such as those of a ski mask, are not of the mask.
LARGEST_HOLE = 0.03
# By how much a region that was found is grown, as a share of the side (4 pixels of 128): its rim is not found exactly, the mask
# casts a shadow, and over this width the drawn face is blended with the photo.
RIM = 1 / 32
# Width of the soft edge within a region that was given, likewise.
SOFT_EDGE = 1 / 64
# A face narrower than this, in pixels, shows too little to go by.
LEAST_WIDTH = 16
# A picture has no colour if its channels differ by fewer levels than this on average: compression leaves a little.
LEAST_CHROMA = 2.0


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in a photo, and what was done to it.

    Attributes:
      box: `[4]`: left, top, right and bottom edge in pixels of the photo, by the detector.
      score: the detector's confidence, 0 to 1.
      landmarks: `[68, 2]`, (x, y) in pixels of the photo.
      alignment: `[4, 2]`, the corners of the generator's square around it in the photo, as in `AlignedFace`.
      cover: share of the lower face that is hidden, 0 to 1.
      region: `[S, S]` uint8, 255 = hidden, in that square; what was redrawn, if the face was.
      before: `[S, S, 3]` uint8, the aligned face.
      after: the same without the mask, or None if it was left alone.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray
    alignment: np.ndarray
    cover: float
    region: np.ndarray
    before: np.ndarray
    after: np.ndarray | None = None

    @property
    def masked(self) -> bool:
        """Whether it wears a mask."""
        return self.cover >= LEAST_COVER


class Unmasker:
    """Removes masks: `Unmasker.from_pretrained()(photo)`. It may be used by several threads at once."""

    def __init__(self, generator: FaceNetwork, landmark_net: FaceNetwork, segmentation_net: FaceNetwork):
        """Of three trained networks for the same squares.

        Raises:
          UserError: the landmark and the segmentation network are for faces of different size or zoom.
        """
        if (landmark_net.size, landmark_net.zoom) != (segmentation_net.size, segmentation_net.zoom):
            raise UserError("the landmark and the segmentation network are for different faces; train both on one data set")
        self.generator = generator
        self.landmark_net = landmark_net
        self.segmentation_net = segmentation_net

    @classmethod
    def from_pretrained(cls, weights: str | Path | None = None, *, fast: bool = False) -> Unmasker:
        """The networks that come with the package (MODEL_CARD.md); or, of `weights`, another generator.

        Args:
          weights: workdir of a `maskgan train` run or a file of `maskgan export`; None for the package's.
          fast: take the package's generator for 128 px instead of the one for 256 px: coarser, and several times faster.

        Raises:
          UserError: there is no such network.
        """
        return cls(
            FaceNetwork(weights or pretrained("unmask_fast" if fast else "unmask"), "unmask", batch_size=1),
            FaceNetwork(pretrained("landmarks"), "landmarks", batch_size=1),
            FaceNetwork(pretrained("segmentation"), "segmentation", batch_size=1),
        )

    def __call__(self, photos: np.ndarray | Sequence[np.ndarray]) -> np.ndarray | list[np.ndarray]:
        """Photos without their masks.

        Args:
          photos: one photo `[H, W, 3]` RGB, uint8, or several: `[B, H, W, 3]`, or a list of photos of any sizes.

        Returns:
          The same in the same form; outside the masks and their rims no pixel differs. A photo in which nothing was found is
          returned as it is.

        Raises:
          UserError: the array is no photo, or the detector's weights have not been fetched.
        """
        if isinstance(photos, np.ndarray) and photos.ndim == 4:
            return np.stack([self.unmask(photo)[0] for photo in photos]) if len(photos) else photos.copy()
        if isinstance(photos, Sequence) and not isinstance(photos, str):
            return [self.unmask(photo)[0] for photo in photos]
        return self.unmask(photos)[0]

    def unmask(self, photo: np.ndarray, mask: np.ndarray | None = None) -> tuple[np.ndarray, list[Face]]:
        """One photo without its masks, and the faces in it, the largest first.

        Args:
          photo: `[H, W, 3]` RGB, uint8.
          mask: `[H, W]` bool, or uint8 above 127 = hidden: only this is redrawn, whatever the network would find.

        Raises:
          UserError: as `__call__` does, or the mask is no such array, of another size, or hides nothing.
        """
        check_photo(photo)
        if mask is not None:
            mask = _checked_mask(mask, photo.shape[:2])
            return self._unmask_given(photo, mask, self.find(photo))
        faces = self.find(photo)
        faces = [self.redraw(face) if face.masked else face for face in faces]
        return put_into(photo, faces), faces

    def find(self, photo: np.ndarray) -> list[Face]:
        """The faces in a photo `[H, W, 3]` RGB, uint8, with their landmarks and regions; the largest first."""
        return [self.locate(photo, found) for found in detect_faces(photo) if found.box[2] - found.box[0] >= LEAST_WIDTH]

    def locate(self, photo: np.ndarray, found: Detection) -> Face:
        """The face that the detector found, aligned by the landmark network, and its region by the segmentation network."""
        landmarks, _ = self.refine(photo, self.square_of(found))
        return self.describe(found, landmarks, *self.look(photo, landmarks))

    def square_of(self, found: Detection) -> np.ndarray:
        """About the square of a face, `[4, 2]`, by the points of the detector."""
        left_eye, right_eye, _, *corners = found.points
        return zoomed(square_around(left_eye, right_eye, np.mean(corners, axis=0)), self.landmark_net.zoom)

    def refine(self, photo: np.ndarray, alignment: np.ndarray, rounds: int = ROUNDS) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks, and the square that follows from them, of the face in about this square."""
        network = self.landmark_net
        for _ in range(rounds):
            aligned = network(cut_out(photo, alignment, network.size)[None])[0]
            landmarks = to_photo(aligned, alignment, network.size)
            alignment = face_square(landmarks, network.zoom)
        return landmarks, alignment

    def look(self, photo: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The face with these landmarks in the generator's square, `[S, S, 3]`, and how likely each pixel is hidden.

        The likelihood, `[S, S]`, is in the segmentation network's square, which may be another one.
        """
        network, generator = self.segmentation_net, self.generator
        picture = cut_out(photo, face_square(landmarks, network.zoom), network.size)
        likelihood = network(picture[None])[0]
        if not self._same_square:
            picture = cut_out(photo, face_square(landmarks, generator.zoom), generator.size)
        return picture, likelihood

    def describe(self, found: Detection, landmarks: np.ndarray, picture: np.ndarray, likelihood: np.ndarray) -> Face:
        """The face of which `look` gave picture and likelihood."""
        square = face_square(landmarks, self.segmentation_net.zoom)
        points = to_aligned(landmarks, square, len(likelihood))
        seen = eyes(points, likelihood.shape) > 0
        region = np.where(seen, 0, clean_region((likelihood > 0.5) & ~seen)).astype(np.uint8)
        cover = _cover(region, points)
        alignment = face_square(landmarks, self.generator.zoom)
        if not self._same_square:
            # As it lies in the generator's picture, as if that were the photo.
            region = unalign_region(region, to_aligned(square, alignment, len(picture)), picture.shape[:2])
        return Face(found.box, found.score, landmarks, alignment, cover, region, picture)

    @property
    def _same_square(self) -> bool:
        network, generator = self.segmentation_net, self.generator
        return (network.size, network.zoom) == (generator.size, generator.zoom)

    def redraw(self, face: Face) -> Face:
        """A face without its mask; its region is grown by the rim, but not over the eyes."""
        points = to_aligned(face.landmarks, face.alignment, len(face.before))
        region = np.where(eyes(points, face.region.shape) > 0, 0, _grown(face.region)).astype(np.uint8)
        return dataclasses.replace(face, region=region, after=self._drawn(face.before, region))

    def _drawn(self, picture: np.ndarray, region: np.ndarray) -> np.ndarray:
        """What the generator draws in an aligned picture; in one without colour, it is grey too."""
        drawn = self.generator(picture[None], region[None, ..., None])[0]
        visible = picture[region == 0].astype(np.int16)
        if len(visible) and np.ptp(visible, axis=-1).mean() < LEAST_CHROMA:
            drawn = cv2.cvtColor(cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        return drawn

    def _unmask_given(self, photo: np.ndarray, mask: np.ndarray, faces: list[Face]) -> tuple[np.ndarray, list[Face]]:
        result = photo.copy()
        done = []
        regions = regions_of_faces(mask, [face.landmarks for face in faces])
        for face, region in zip(faces, regions, strict=True):
            size = face.before.shape[0]
            aligned = _region_within(region, face.alignment, size)
            if not aligned.any():
                done.append(face)
                continue
            after = self._drawn(face.before, aligned)
            cover = _cover(aligned, to_aligned(face.landmarks, face.alignment, size))
            face = dataclasses.replace(face, region=aligned, cover=cover, after=after)
            paste(result, face.after, face.alignment, region, SOFT_EDGE)
            done.append(face)
        return result, done


def _corners(side: int) -> np.ndarray:
    """The square that all of a picture of so many pixels is."""
    return np.array([(0, 0), (0, side), (side, side), (side, 0)], np.float64) - 0.5


def _region_within(region: np.ndarray, square: np.ndarray, size: int) -> np.ndarray:
    """A region `[H, W]` of a photo in an aligned square, `[size, size]` uint8, 255 = hidden; all that it touches."""
    part = cut_out(np.repeat(region[..., None], 3, axis=2), square, size)[..., 0]
    return cv2.threshold(part, 0, 255, cv2.THRESH_BINARY)[1]


def _cover(region: np.ndarray, landmarks: np.ndarray) -> float:
    """The share of the lower face, 0 to 1, in a region `[S, S]` of an aligned face with these landmarks."""
    lower = region_from_landmarks(landmarks, region.shape)
    return cv2.countNonZero(cv2.bitwise_and(region, lower)) / max(cv2.countNonZero(lower), 1)


def _grown(region: np.ndarray) -> np.ndarray:
    """A region `[S, S]` with a rim."""
    side = 2 * round(RIM * region.shape[0]) + 1
    return cv2.dilate(region, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))


def unmask_square(generator: FaceNetwork, picture: np.ndarray, region: np.ndarray | None) -> np.ndarray:
    """An aligned face, in FFHQ's square, without its mask.

    Args:
      generator: draws it.
      picture: `[S, S, 3]` RGB, uint8, any S.
      region: `[S, S]` uint8, above 127 = hidden; a generator that does not inpaint does without.

    Returns:
      `[S, S, 3]` uint8: the generator's own square in it as the generator draws it, at its resolution.
    """
    side = len(picture)
    if (generator.size, generator.zoom) == (side, 1):
        return generator(picture[None], None if region is None else region[None, ..., None])[0]
    square = zoomed(_corners(side), generator.zoom)
    face = cut_out(picture, square, generator.size)
    hidden = None if region is None else _region_within(region, square, generator.size)[None, ..., None]
    drawn = generator(face[None], hidden)[0]
    left, top = np.ceil(square[0]).astype(int)
    result = picture.copy()
    result[top:, left : side - left] = unalign(drawn, square, (left, top, side - 2 * left, side - top))
    return result


def find_region(segmentation_net: FaceNetwork, landmark_net: FaceNetwork, picture: np.ndarray) -> np.ndarray:
    """Where the mask is on an aligned face (FFHQ's square) `[S, S, 3]` RGB, uint8, with a rim: `[S, S]`, 255 = hidden."""
    square = zoomed(_corners(len(picture)), segmentation_net.zoom)
    face = cut_out(picture, square, segmentation_net.size)[None]
    seen = eyes(landmark_net(face)[0], face.shape[1:3]) > 0
    region = _grown(clean_region((segmentation_net(face)[0] > 0.5) & ~seen))
    return unalign_region(np.where(seen, 0, region).astype(np.uint8), square, picture.shape[:2])


def put_into(photo: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """A photo `[H, W, 3]` with the faces that were redrawn, the largest first in `faces`."""
    result = photo.copy()
    for face in reversed(faces):  # The largest is in front.
        if face.after is not None:
            paste(result, face.after, face.alignment, unalign_region(face.region, face.alignment, photo.shape[:2]), RIM)
    return result


def check_photo(photo: Any) -> None:
    """Raises UserError unless `photo` is an array `[H, W, 3]`, uint8."""
    is_array = isinstance(photo, np.ndarray)
    if not is_array or photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
        hint = "" if is_array else "; np.asarray(image.convert('RGB')) makes one of Pillow's images"
        raise UserError(f"a photo is an array [H, W, 3] of uint8 (RGB), not {_kind(photo)}{hint}")


def _checked_mask(mask: Any, shape: tuple[int, int]) -> np.ndarray:
    """A mask that was given for a photo of `shape` (height, width), as uint8, 255 = hidden. Raises UserError if it is none."""
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype not in (np.bool_, np.uint8):
        raise UserError(f"a mask is an array [H, W] of bool, or of uint8 above 127 = hidden, not {_kind(mask)}")
    if mask.shape != shape:
        raise UserError(f"the photo is {shape[1]} x {shape[0]} but its mask is {mask.shape[1]} x {mask.shape[0]}")
    hidden = mask if mask.dtype == np.bool_ else mask > 127
    if not hidden.any():
        raise UserError("the mask hides nothing: hidden pixels must be True or, of uint8, 255 (not 1)")
    return hidden * np.uint8(255)


def _kind(value: Any) -> str:
    """What something is that should have been another array."""
    if isinstance(value, np.ndarray):
        return f"{list(value.shape)} of {value.dtype}"
    return f"an object of type {type(value).__name__}"


def clean_region(found: np.ndarray) -> np.ndarray:
    """A region `[S, S]`, 255 = hidden, of the pixels that were found (bool): without specks and holes."""
    region = found.astype(np.uint8)
    for value, most in ((1, LEAST_PART), (0, LARGEST_HOLE)):
        count, labels, parts, _ = cv2.connectedComponentsWithStats((region == value).astype(np.uint8), connectivity=4)
        small = np.flatnonzero(parts[1:count, cv2.CC_STAT_AREA] < most * region.size) + 1
        region[np.isin(labels, small)] = 1 - value
    return region * np.uint8(255)


def region_from_landmarks(landmarks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The lower face: from the bridge of the nose to the jaw and the chin.

    Args:
      landmarks: `[68, 2]`, (x, y) in pixels.
      shape: height and width of the picture.

    Returns:
      `[height, width]` uint8, 255 inside.
    """
    hull = cv2.convexHull(np.rint(landmarks[[*range(2, 15), 28]]).astype(np.int32))
    return cv2.fillConvexPoly(np.zeros(shape, np.uint8), hull, 255)


def regions_of_faces(mask: np.ndarray, faces: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A mask `[H, W]` uint8 divided among faces, given by their landmarks: each pixel belongs to the nearest nose."""
    y, x = np.nonzero(mask > 127)
    nearest, least = np.zeros(len(x), np.int32), np.full(len(x), np.inf)
    for number, landmarks in enumerate(faces):
        distance = np.hypot(x - landmarks[33, 0], y - landmarks[33, 1])
        nearest[distance < least] = number
        np.minimum(distance, least, out=least)
    regions = []
    for number in range(len(faces)):
        region = np.zeros(mask.shape, np.uint8)
        region[y[nearest == number], x[nearest == number]] = 255
        regions.append(region)
    return regions


def paste(photo: np.ndarray, face: np.ndarray, alignment: np.ndarray, region: np.ndarray, edge: float) -> bool:
    """Puts an aligned face back into its photo, with a soft edge inside the region; no pixel outside it changes.

    Args:
      photo: `[H, W, 3]` RGB, uint8, which is changed.
      face: `[S, S, 3]` RGB, uint8.
      alignment: `[4, 2]`, as in `AlignedFace`.
      region: `[H, W]` uint8, 255 = hidden; what of it lies outside the aligned square stays as it is.
      edge: width of the soft edge, as a share of the square's side.

    Returns:
      Whether any of the region lies in the square.
    """
    square = cv2.fillConvexPoly(np.zeros_like(region), np.rint(alignment).astype(np.int32), 255)
    region = cv2.bitwise_and(region, square)
    # One more pixel on each side, from where the distance to the edge counts. The photo's own edge is none.
    x, y, width, height = cv2.boundingRect(cv2.dilate(region, np.ones((3, 3), np.uint8)))
    if not width:
        return False
    part = np.s_[y : y + height, x : x + width]
    reach = max(np.hypot(*(alignment[3] - alignment[0])) * edge, 1)
    weight = np.minimum(cv2.distanceTransform(region[part], cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / reach, 1)[..., None]
    drawn = unalign(face, alignment, (x, y, width, height))
    photo[part] = np.rint(photo[part] + weight * (drawn - photo[part].astype(np.float32)))
    return True
