"""Measures how easily drawn masks can be told from real ones, with a classifier of small patches.

    python tools/measure_mask_realism.py --real=FOLDER --source=folder=PHOTOS --out=realism.json --pictures=realism.png

FOLDER has photos of people wearing masks; on faces in the other photos, masks are drawn as `maskgan build` draws them. The
classifier should see a difference in the masks and in nothing else, so both kinds of photos are processed alike: landmarks
found on the masked face, a face aligned at 128 pixels, a low-pass filter, JPEG, and a mask found by GrabCut (Rother et al.,
2004), since the exact one is unknown for real masks. Faces to draw on are chosen to be about as large in their photos as the
real masked faces are in theirs.

The classifier is a logistic regression on the ST-LPIPS network's features of a patch. It is trained on four fifths of the
photos and tested on the rest, for each of these kinds of patches:

  inside   entirely within the mask
  rim      centred on the edge of the mask
  skin     around the eyes, where there is no mask: what the choice of photos alone reveals

once in colour and once as 'texture', grey and of equal brightness. 'chance' is the same procedure applied to random halves of
the real masks. Accuracy is balanced: 0.5 means that drawn and real masks cannot be told apart.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.special
from ml_collections import ConfigDict
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from maskgan_jax.config import load_config
from maskgan_jax.data.align import FaceSquare, align
from maskgan_jax.data.build.landmarks import largest_face_landmarks
from maskgan_jax.data.build.make_record import FoundFace, find_face, make_record
from maskgan_jax.data.build.sources import Photo, list_all_photos
from maskgan_jax.data.grid import labelled_grid
from maskgan_jax.data.masks import check_masks
from maskgan_jax.data.points import LEFT_EYE, RIGHT_EYE
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import check_writable, decode_image, find_images, read_image, write_json, write_png
from maskgan_jax.models.lpips import Convolution
from maskgan_jax.models.st_lpips import alex_taps, load_st_lpips

# Side of the faces that are compared, and of the patches, in pixels.
SIZE, PATCH = 128, 32
# Both kinds of images are degraded alike: standard deviation of the blur in pixels, and JPEG quality.
BLUR, QUALITY = 0.6, 85
# Patches of each kind from a face, at most.
PATCHES = 8
KINDS = ("inside", "rim", "skin")
# The type of a real mask.
REAL = "real"
FOLDS, REPEATS = 5, 3
# Side to which patches are enlarged for the network, which then sees finer detail, and batch size.
ENLARGED, BATCH = 48, 64
# Principal components kept of the features, and the weight of the L2 penalty.
COMPONENTS, PENALTY = 256, 0.1
# Faces in a row of the PNG.
SHOWN = 10
# Two photos whose upper faces correlate more than this count as one.
SAME = 0.9
# A mask is trusted if it covers this fraction of the outline that landmarks suggest and is at most this many times as large.
COVERED, LARGEST = 0.6, 1.7


@dataclasses.dataclass(frozen=True)
class MaskedFace:
    """A masked face, drawn or real, and its patches.

    Attributes:
      name: of the photo.
      group: photos of the same group are never in different folds.
      kind: the type of a drawn mask; 'real' for a real one.
      image: `[SIZE, SIZE, 3]` uint8.
      mask: `[SIZE, SIZE]` bool, where the mask was found.
      patches: `{kind: [n, PATCH, PATCH, 3]}` uint8, for each of `KINDS`; n may be 0.
    """

    name: str
    group: str
    kind: str
    image: np.ndarray
    mask: np.ndarray
    patches: dict[str, np.ndarray]


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, measures, prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--real", required=True, metavar="FOLDER", help="photos of people who wear masks")
    parser.add_argument("--source", action="append", required=True, metavar="KIND=FOLDER", help="as for maskgan build")
    parser.add_argument("--config", default="default", metavar="FILE", help="config file; settings: --config.KEY=VALUE")
    parser.add_argument("--faces", type=int, default=200, metavar="N", help="faces to draw on (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, metavar="FILE", help="where the numbers go, as JSON")
    parser.add_argument("--pictures", metavar="FILE", help="PNG of the masks that are told apart best and worst")
    options, overrides = parser.parse_known_args(arguments)
    if options.faces < FOLDS or options.seed < 0:
        raise UserError(f"--faces={options.faces} --seed={options.seed}: give at least {FOLDS} faces, and a seed of 0 or more")
    config = load_config(options.config, overrides)
    check_masks(config.data)
    for path in filter(None, (options.out, options.pictures)):
        check_writable(path)
    cv2.setNumThreads(1)

    real, sides, lost = real_faces(options.real, config, options.seed)
    drawn, drawn_lost = drawn_faces(options.source, config, sides, options.faces, options.seed)
    result, probabilities_by_kind = measure(real, drawn, options.seed)
    write_json(options.out, {**result, "real_left_out": lost, "drawn_left_out": drawn_lost})
    print_table(result)
    print(f"left out: {len(lost)} photos of real masks and {len(drawn_lost)} drawn ones, in which no face or no mask is found")
    print(f"numbers in {options.out}")
    if options.pictures:
        write_png(options.pictures, extremes([*real, *drawn], probabilities_by_kind))
        print(f"pictures in {options.pictures}")


def real_faces(folder: str, config: ConfigDict, seed: int) -> tuple[list[MaskedFace], np.ndarray, dict[str, str]]:
    """The masked faces in a folder of photos.

    Returns:
      The faces; the side in pixels of the aligned square of each in its photo; and why other photos are left out, by name.

    Raises:
      UserError: a mask is found in fewer photos than there are folds.
    """
    rng = np.random.default_rng(seed)
    faces, sides, lost = [], [], {}
    for path in tqdm(find_images(folder), "real masks", unit=" photos"):
        try:
            photo = read_image(path)
            face, side = masked_face(photo, np.ones(photo.shape[:2], bool), path.name, f"real/{path.name}", REAL, config, rng)
        except UserError as error:
            lost[path.name] = str(error)
            continue
        faces.append(face)
        sides.append(side)
    if len(faces) < FOLDS:
        raise UserError(
            f"only {len(faces)} of the photos in {folder} have a mask that is found; give more photos of masked faces"
        )
    return _grouped(faces), np.array(sides), lost


def _grouped(faces: Sequence[MaskedFace]) -> list[MaskedFace]:
    """The faces, with copies and near-copies of a photo, and those of these in turn, in one group."""
    tops = [
        cv2.resize(face.image[SIZE // 8 : SIZE // 2].mean(axis=-1), (20, 12), interpolation=cv2.INTER_AREA) for face in faces
    ]
    alike = np.corrcoef([top.ravel() for top in tops]) > SAME
    _, groups = connected_components(alike, directed=False)
    firsts = np.unique(groups, return_index=True)[1][groups]
    return [dataclasses.replace(face, group=faces[first].group) for face, first in zip(faces, firsts, strict=True)]


def drawn_faces(
    sources: Sequence[str], config: ConfigDict, sides: np.ndarray, count: int, seed: int
) -> tuple[list[MaskedFace], dict[str, str]]:
    """Faces with drawn masks, about as large in their photos as `sides` pixels; and why others are left out, by id.

    Raises:
      UserError: a source is wrong, or too few of the faces have a mask that is found.
    """
    rng = np.random.default_rng(seed)
    photos = [item for item in list_all_photos(sources, config) if isinstance(item, Photo)]
    by_source: dict[str, list[Photo]] = {}
    for number in rng.permutation(len(photos)):
        by_source.setdefault(photos[number].source, []).append(photos[number])
    # From the sources in turn, since their faces differ in size.
    turns = (photo for turn in itertools.zip_longest(*by_source.values()) for photo in turn if photo)
    candidates = list(itertools.islice(turns, 3 * count // 2))
    found = [find_face(photo, config.data, config.seed) for photo in tqdm(candidates, "faces to draw on", unit=" photos")]
    usable = [face for face in found if isinstance(face, FoundFace)]
    faces, lost = [], {}
    for face in tqdm(_matched(usable, sides, count, rng), "drawn masks", unit=" faces"):
        record = make_record(face, config.data, config.seed)
        image = record["masked"]
        # Some aligned faces extend beyond the photo.
        height, width = face.photo.read().shape[:2]
        places = FaceSquare(record["alignment"], len(image)).to_photo(_pixels(len(image)))
        shown = ((places >= 0) & (places <= [width - 1, height - 1])).all(axis=-1)
        try:
            faces.append(masked_face(image, shown, record["id"], record["identity"], record["mask_type"], config, rng)[0])
        except UserError as error:
            lost[record["id"]] = f"{record['mask_type']}: {error}"
    if len(faces) < FOLDS:
        raise UserError(f"only {len(faces)} drawn masks are found again; give more --source photos, or more --faces")
    return faces, lost


def _matched(faces: Sequence[FoundFace], sides: np.ndarray, count: int, rng: np.random.Generator) -> Iterator[FoundFace]:
    """At most `count` of the faces, each the nearest in size to one of the real ones."""
    left = {number: FaceSquare.around(face.landmarks, SIZE).side for number, face in enumerate(faces)}
    for side in rng.permutation(np.resize(sides, min(count, len(faces)))):
        nearest = min(left, key=lambda number: abs(np.log(left[number] / side)))
        del left[nearest]
        yield faces[nearest]


def masked_face(
    photo: np.ndarray, shown: np.ndarray, name: str, group: str, kind: str, config: ConfigDict, rng: np.random.Generator
) -> tuple[MaskedFace, float]:
    """A face with its patches, made the same way for real and drawn masks, and the side of its aligned square in the photo.

    Args:
      photo: `[H, W, 3]` uint8.
      shown: `[H, W]` bool, False where alignment extended the photo.
      name: as in `MaskedFace`, as are `group` and `kind`.
      group: see there.
      kind: see there.
      config: `data.shape_predictor` is used.
      rng: chooses the patches.

    Raises:
      UserError: no face or no mask is found.
    """
    aligned = align(photo, largest_face_landmarks(photo, config.data.shape_predictor), SIZE)
    places = np.rint(aligned.square.to_photo(_pixels(SIZE))).astype(int)
    within = ((places >= 0) & (places < photo.shape[1::-1])).all(axis=-1)
    x, y = np.moveaxis(np.where(within[..., None], places, 0), -1, 0)
    shown = within & shown[y, x]
    mask, edge = find_mask(aligned.image, aligned.landmarks)
    blurred = cv2.GaussianBlur(aligned.image, (0, 0), BLUR)
    image = decode_image(cv2.imencode(".jpg", blurred[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
    patches = cut_patches(image, mask, edge, shown, aligned.landmarks, rng)
    return MaskedFace(name, group, kind, image, mask, patches), aligned.square.side


def _pixels(size: int) -> np.ndarray:
    """`[size, size, 2]`, (x, y) of each pixel."""
    return np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1)


def find_mask(image: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Segments the mask on an aligned face by its colours, starting from where the landmarks suggest it is.

    Args:
      image: `[SIZE, SIZE, 3]` uint8.
      landmarks: `[68, 2]`, (x, y) in pixels of `image`.

    Returns:
      `[SIZE, SIZE]` bool, the mask; and `[SIZE, SIZE]` bool, the pixels on its edge that GrabCut was free to move.

    Raises:
      UserError: what was found is not a mask.
    """
    mouth, chin = landmarks[48:60], landmarks[6:11]
    outline = _filled(np.concatenate([landmarks[2:15], landmarks[29:30]]))
    cheeks = (landmarks[[4, 12]] + landmarks[[48, 54]]) / 2
    core = _filled(np.concatenate([mouth, landmarks[31:36], cheeks, 0.6 * chin + 0.4 * landmarks[57]]))
    eyes = _filled(landmarks[LEFT_EYE]) | _filled(landmarks[RIGHT_EYE])
    labels = np.where(cv2.dilate(outline, _disc(12)) > 0, cv2.GC_PR_BGD, cv2.GC_BGD).astype(np.uint8)
    labels[outline > 0] = cv2.GC_PR_FGD
    labels[cv2.dilate(eyes, _disc(3)) > 0] = cv2.GC_BGD
    labels[cv2.erode(core, _disc(2)) > 0] = cv2.GC_FGD
    free = (labels == cv2.GC_PR_BGD) | (labels == cv2.GC_PR_FGD)
    cv2.setRNGSeed(0)
    laboratory = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    try:
        cv2.grabCut(laboratory, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
    except cv2.error as error:  # Foreground or background is missing.
        raise UserError("the landmarks leave no room for a mask") from error
    found = np.isin(labels, [cv2.GC_FGD, cv2.GC_PR_FGD]).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, _disc(2))
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(found)
    if len(statistics) > 1:
        found = (parts == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)
    found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, _disc(4))
    contours, _ = cv2.findContours(found, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(found, contours, -1, 1, cv2.FILLED)
    expected = int(outline.sum())
    if (found & outline).sum() < COVERED * expected or found.sum() > LARGEST * expected:
        raise UserError("no mask is found where the landmarks suggest one")
    edge = (cv2.morphologyEx(found, cv2.MORPH_GRADIENT, _disc(1)) > 0) & (found > 0)
    return found > 0, edge & (cv2.erode(free.astype(np.uint8), _disc(2)) > 0)


def _filled(points: np.ndarray) -> np.ndarray:
    """`[SIZE, SIZE]` uint8, 1 in the convex hull of the points."""
    hull = cv2.convexHull(np.rint(points).astype(np.int32))
    return cv2.fillPoly(np.zeros((SIZE, SIZE), np.uint8), [hull], 1)


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def cut_patches(
    image: np.ndarray,
    mask: np.ndarray,
    edge: np.ndarray,
    shown: np.ndarray,
    landmarks: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """At most `PATCHES` patches of each of `KINDS`, at random places; `[n, PATCH, PATCH, 3]` uint8.

    Args:
      image: `[SIZE, SIZE, 3]` uint8.
      mask: `[SIZE, SIZE]` bool, as `find_mask` gives it; so is `edge`.
      edge: see there.
      shown: `[SIZE, SIZE]` bool; True throughout a patch.
      landmarks: `[68, 2]`.
      rng: chooses among the positions.
    """

    def coverage(mask: np.ndarray) -> np.ndarray:
        """Fraction of a patch that is in the mask, for each position of its top left pixel."""
        return cv2.boxFilter(mask.astype(np.float32), -1, (PATCH, PATCH), anchor=(0, 0))[: SIZE - PATCH + 1, : SIZE - PATCH + 1]

    covered, half = coverage(mask), PATCH // 2
    x, y = np.moveaxis(_pixels(SIZE)[half : half + len(covered), half : half + len(covered)], -1, 0)
    left, right = landmarks[[17, 26], 0]
    top, bottom = landmarks[17:27, 1].min() - half // 2, landmarks[28, 1]
    places = {
        "inside": covered > 0.999,
        "rim": edge[y, x] & (covered > 0.25) & (covered < 0.75),
        "skin": (covered < 0.001) & (x > left) & (x < right) & (y > top) & (y < bottom),
    }
    complete = coverage(shown) > 0.999
    patches = {}
    for kind in KINDS:
        candidates = np.argwhere(places[kind] & complete)
        chosen = candidates[rng.permutation(len(candidates))[:PATCHES]]
        cut = [image[row : row + PATCH, column : column + PATCH] for row, column in chosen]
        patches[kind] = np.array(cut, np.uint8).reshape(-1, PATCH, PATCH, 3)
    return patches


def measure(real: Sequence[MaskedFace], drawn: Sequence[MaskedFace], seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Tells drawn from real masks by each kind of patch.

    Returns:
      The content of the JSON file; and for each kind the probability of being drawn of each patch, as `patches_of` orders them.

    Raises:
      UserError: too few faces have patches of one kind.
    """
    faces = [*real, *drawn]
    result: dict[str, Any] = {"real": len(real), "drawn": len(drawn)}
    probabilities_by_kind, by_type = {}, {}
    rng = np.random.default_rng(seed)
    for kind in KINDS:
        patches, photos = patches_of(faces, kind)
        labels = photos >= len(real)
        groups = np.unique([face.group for face in faces], return_inverse=True)[1][photos]
        for label, name in enumerate(("real", "drawn")):
            # Twice as many, since 'chance' splits them in two.
            if (count := len(np.unique(groups[labels == label]))) < 2 * FOLDS:
                raise UserError(f"only {count} of the {name} masks show enough for the patches '{kind}'; give more photos")
        seen = features(patches)
        probabilities = cross_validate(seen, labels, groups, rng)
        seen_as_texture = features(texture(patches))
        result[kind] = {
            "colour": scores(probabilities, labels, photos),
            "texture": scores(cross_validate(seen_as_texture, labels, groups, rng), labels, photos),
            "chance": chance(seen[~labels], groups[~labels], photos[~labels], rng),
        }
        probabilities_by_kind[kind] = probabilities.mean(axis=0)
        by_type[kind] = _means(probabilities_by_kind[kind], np.array([face.kind for face in faces])[photos])
    return {**result, "probability_of_drawn": by_type}, probabilities_by_kind


def patches_of(faces: Sequence[MaskedFace], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The patches of all faces, `[n, PATCH, PATCH, 3]`, and the number of the face that each is from, `[n]`."""
    patches = [face.patches[kind] for face in faces]
    return np.concatenate(patches), np.repeat(np.arange(len(faces)), list(map(len, patches)))


def _means(values: np.ndarray, names: np.ndarray) -> dict[str, float]:
    """The mean value for each name."""
    return {str(name): float(values[names == name].mean()) for name in np.unique(names)}


def texture(patches: np.ndarray) -> np.ndarray:
    """The patches in grey, each with the same mean."""
    grey = patches.mean(axis=-1, keepdims=True)
    grey += 128 - grey.mean(axis=(1, 2, 3), keepdims=True)
    return np.repeat(np.clip(grey, 0, 255), 3, axis=-1)


def features(patches: np.ndarray) -> np.ndarray:
    """The ST-LPIPS network's features of patches `[n, PATCH, PATCH, 3]` in 0..255.

    Mean and standard deviation of each channel of its five layers, standardized and reduced to principal components.

    Returns:
      `[n, COMPONENTS]`, fewer components if n is less.
    """
    convolutions = load_st_lpips("alex").convolutions
    # Batches of one size, so that the network is compiled once.
    filled = np.pad(np.asarray(patches, np.float32), ((0, -len(patches) % BATCH), (0, 0), (0, 0), (0, 0)))
    batches = filled.reshape(-1, BATCH, *filled.shape[1:])
    seen = np.concatenate([_statistics(convolutions, batch) for batch in batches])[: len(patches)]
    seen = (seen - seen.mean(axis=0)) / (seen.std(axis=0) + 1e-6)
    # Subspace iteration: many times faster than computing all eigenvectors.
    directions = np.random.default_rng(0).normal(size=(seen.shape[1], min(COMPONENTS, len(seen)))).astype(np.float32)
    for _ in range(4):
        directions, _ = np.linalg.qr(seen.T @ (seen @ directions))
    return seen @ directions


@jax.jit
def _statistics(convolutions: Sequence[Convolution], patches: jax.Array) -> jax.Array:
    enlarged = jax.image.resize(patches / 127.5 - 1, (len(patches), ENLARGED, ENLARGED, 3), "cubic")
    taps = alex_taps(convolutions, enlarged)
    return jnp.concatenate([statistic(tap, axis=(1, 2)) for tap in taps for statistic in (jnp.mean, jnp.std)], axis=-1)


def cross_validate(
    seen: np.ndarray, labels: np.ndarray, groups: np.ndarray, rng: np.random.Generator, repeats: int = REPEATS
) -> np.ndarray:
    """`[repeats, n]`, for each patch the probability that it is drawn, by classifiers not trained on its group.

    Args:
      seen: `[n, d]` features of the patches.
      labels: `[n]` bool, True for drawn ones.
      groups: `[n]` int.
      rng: assigns groups to folds.
      repeats: number of assignments.
    """
    probabilities = np.empty((repeats, len(seen)))
    for row in probabilities:
        fold = folds(labels, groups, rng)
        for number in range(FOLDS):
            held_out = fold == number
            row[held_out] = logistic_regression(seen[~held_out], labels[~held_out], seen[held_out])
    return probabilities


def folds(labels: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`[n]` int, the fold of each patch: a group is in one fold, and each fold has about as many groups of either label."""
    fold = np.empty(len(groups), int)
    for label in (False, True):
        members = np.unique(groups[labels == label])
        dealt = dict(zip(rng.permutation(members).tolist(), np.arange(len(members)) % FOLDS, strict=True))
        fold[labels == label] = [dealt[group] for group in groups[labels == label].tolist()]
    return fold


def logistic_regression(seen: np.ndarray, labels: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """Trained on `seen` `[n, d]` with `labels` `[n]`, both of equal weight: the probability of True for `unseen` `[m, d]`."""
    signs = np.where(labels, 1.0, -1.0)
    weights = np.where(labels, 0.5 / labels.mean(), 0.5 / (~labels).mean()) / len(labels)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (seen @ parameters[1:] + parameters[0])
        slopes = -weights * signs * scipy.special.expit(-margins)
        value = weights @ np.logaddexp(0, -margins) + PENALTY / 2 * (parameters[1:] @ parameters[1:])
        return value, np.concatenate([[slopes.sum()], slopes @ seen + PENALTY * parameters[1:]])

    start = np.zeros(seen.shape[1] + 1)
    parameters = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return scipy.special.expit(unseen @ parameters[1:] + parameters[0])


def scores(probabilities: np.ndarray, labels: np.ndarray, photos: np.ndarray) -> dict[str, float]:
    """Balanced accuracy over patches.

    Args:
      probabilities: `[repeats, n]`, of being drawn.
      labels: `[n]` bool.
      photos: `[n]` int.

    Returns:
      `accuracy`: the mean over the repeats; `error`: its standard error, given the number of photos.
    """
    _, first, number = np.unique(photos, return_index=True, return_inverse=True)
    correct = (probabilities > 0.5) == labels
    accuracy = np.mean([row[labels].mean() + row[~labels].mean() for row in correct]) / 2
    of_photos, photo_labels = np.bincount(number, correct.mean(axis=0)) / np.bincount(number), labels[first]
    variances = [of_photos[photo_labels == label].var() / np.sum(photo_labels == label) for label in (False, True)]
    return {"accuracy": float(accuracy), "error": float(np.sqrt(sum(variances)) / 2)}


def chance(seen: np.ndarray, groups: np.ndarray, photos: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """The scores of telling one random half of the real photos from the other: the mean over `REPEATS` halves."""
    rows = []
    for _ in range(REPEATS):
        members = rng.permutation(np.unique(groups))
        labels = np.isin(groups, members[: len(members) // 2])
        rows.append(scores(cross_validate(seen, labels, groups, rng, repeats=1), labels, photos))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def print_table(result: Mapping[str, Any]) -> None:
    """Prints what `measure` gives."""
    print(f"{result['real']} real and {result['drawn']} drawn masks; balanced accuracy of telling them apart")
    for kind in KINDS:
        for look, row in result[kind].items():
            print(f"{kind:8} {look:8} {row['accuracy']:.3f} +- {row['error']:.3f}")
    print("mean probability of being drawn (inside, rim):")
    inside, rim = (result["probability_of_drawn"][kind] for kind in ("inside", "rim"))
    for type_ in sorted(inside, key=inside.get):
        print(f"  {type_:12} {inside[type_]:.3f} {rim.get(type_, float('nan')):.3f}")


def extremes(faces: Sequence[MaskedFace], probabilities: Mapping[str, np.ndarray]) -> np.ndarray:
    """The masks that are told apart best and worst by the patches inside and on the rim, outlined: `[H, W, 3]` uint8."""
    kinds = ("inside", "rim")
    photos = np.concatenate([patches_of(faces, kind)[1] for kind in kinds])
    logits = scipy.special.logit(np.clip(np.concatenate([probabilities[kind] for kind in kinds]), 1e-6, 1 - 1e-6))
    means = {number: logits[photos == number].mean() for number in np.unique(photos)}
    order = sorted(means, key=means.get, reverse=True)
    drawn, real = ([number for number in order if (faces[number].kind == REAL) == is_real] for is_real in (False, True))
    rows = {
        "drawn, and called drawn": drawn,
        "drawn, but taken for real": drawn[::-1],
        "real, and called real": real[::-1],
        "real, but taken for drawn": real,
    }
    blank = np.full((SIZE, SIZE, 3), 255, np.uint8)
    images = [[*(_outlined(faces[number]) for number in row), *[blank] * SHOWN][:SHOWN] for row in rows.values()]
    return labelled_grid(images, [""] * SHOWN, captions=list(rows))


def _outlined(face: MaskedFace) -> np.ndarray:
    """The face with dots around its mask."""
    image = face.image.copy()
    edge = cv2.morphologyEx(face.mask.astype(np.uint8), cv2.MORPH_DILATE, _disc(1)) - face.mask > 0
    edge[::2] = edge[:, ::2] = False
    image[edge] = [255, 0, 255]
    return image


if __name__ == "__main__":
    sys.exit(exit_code("measure_mask_realism", main))
