"""The arithmetic of the page, against that of the Python program and of OpenCV."""

import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from maskgan_jax.data import align
from maskgan_jax.data.align import FaceSquare
from maskgan_jax.data.points import eyes
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.data.window import Window
from maskgan_jax.metrics.baselines import telea
from maskgan_jax.page import networks
from maskgan_jax.unmasking import compositing as compositing_module
from maskgan_jax.unmasking import detection, face_aligner, inpainter, mask_finder
from maskgan_jax.unmasking import face as face_module
from maskgan_jax.unmasking import grain as grain_module
from maskgan_jax.unmasking import one_colour as one_colour_module
from maskgan_jax.unmasking import unmasker as unmasker_module
from maskgan_jax.unmasking.compositing import composite, nearest_faces
from maskgan_jax.unmasking.detection import Detection, are_same_face, detect_close_up, detect_faces, detect_turned, overlap
from maskgan_jax.unmasking.face import Face
from maskgan_jax.unmasking.face_aligner import is_face, is_face_upright
from maskgan_jax.unmasking.inpainter import grown
from maskgan_jax.unmasking.one_colour import one_coloured

SIDE = 96
STATIC = Path(networks.__file__).parent / "static"


@pytest.fixture(scope="module")
def photo():
    """A smooth image with noise, `[90, 120, 3]`."""
    rng = np.random.default_rng(0)
    coarse = cv2.resize(rng.uniform(40, 220, (6, 8, 3)), (120, 90), interpolation=cv2.INTER_CUBIC)
    return np.clip(coarse + rng.normal(0, 6, coarse.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def landmarks():
    """68 points like those of a face about (60, 45), 50 pixels wide."""
    points = np.zeros((68, 2))
    angle = np.linspace(np.pi, 0, 17)
    points[:17] = np.stack([60 + 25 * np.cos(angle), 36 + 30 * np.sin(angle)], 1)
    points[17:27] = np.stack([np.linspace(40, 80, 10), np.full(10, 27)], 1)
    points[27:36] = (60, 45)
    turn = np.linspace(0, 2 * np.pi, 6, endpoint=False)
    for start, x in ((36, 48), (42, 72)):
        points[start : start + 6] = np.stack([x + 5 * np.cos(turn), 33 + 3 * np.sin(turn)], 1)
    turn = np.linspace(np.pi, -np.pi, 20)
    points[48:] = np.stack([60 + 10 * np.cos(turn), 54 + 4 * np.sin(turn)], 1)
    points[48], points[54] = (50, 54), (70, 54)
    points[30], points[28] = (60, 44), (60, 38)
    return points


def differences(a, b):
    return np.abs(np.asarray(a, float) - np.asarray(b, float))


def test_resizing(run_javascript, as_image, photo):
    small, large = run_javascript(
        "import { resizeArea, resizeLinear } from './images.js';",
        "const photo = image(input.photo); return [resizeArea(photo, 64, 32), resizeLinear(photo, 160, 130)];",
        photo=photo,
    )
    assert differences(as_image(small), cv2.resize(photo, (64, 32), interpolation=cv2.INTER_AREA)).max() <= 1
    assert differences(as_image(large), cv2.resize(photo, (160, 130), interpolation=cv2.INTER_LINEAR)).max() <= 1


def test_borders_and_quarter_turns(run_javascript, as_image, photo):
    with_border, turned = run_javascript(
        "import { bordered, quarterTurned } from './images.js';",
        "const photo = image(input.photo); return [bordered(photo, 5, 128), quarterTurned(photo)];",
        photo=photo,
    )
    np.testing.assert_array_equal(as_image(with_border), np.pad(photo, [(5, 5), (5, 5), (0, 0)], constant_values=128))
    np.testing.assert_array_equal(as_image(turned), np.rot90(photo))


@pytest.mark.parametrize(("width", "sigma"), [(120, 0.7), (120, 1.5), (117, 1.5), (120, 4.2), (3, 0.7)])
def test_gaussian_blur(run_javascript, as_image, photo, width, sigma):
    photo = photo[:, :width]
    real = photo[..., 0].astype(np.float32)
    of_bytes, of_floats = run_javascript(
        "import { gaussianBlur } from './images.js';",
        "return [gaussianBlur(image(input.photo), input.sigma), gaussianBlur(image(input.real, Float32Array), input.sigma)];",
        photo=photo,
        real=real,
        sigma=sigma,
    )
    assert differences(as_image(of_bytes), cv2.GaussianBlur(photo, (0, 0), sigma)).max() <= 2
    np.testing.assert_allclose(as_image(of_floats), cv2.GaussianBlur(real, (0, 0), sigma), atol=1e-3)


def test_cutting_out_and_putting_back(run_javascript, as_image, photo, landmarks):
    """Inside the photo, over its edge, and much smaller than what is cut out."""
    for size, shift in ((64, (0, 0)), (32, (-40, 20)), (128, (5, -15))):
        points = landmarks + shift
        square = FaceSquare.around(points, size, 4 / 3)
        cut, back, corners, inside = run_javascript(
            "import { FaceSquare } from './align.js';",
            """const square = FaceSquare.around(input.points, input.size, 4 / 3);
               const photo = image(input.photo);
               const cut = square.cutOut(photo);
               const window = square.window(photo);
               return [cut, square.putBack(cut, window), [square.corners, window], square.inside(window)];""",
            photo=photo,
            points=points,
            size=size,
        )
        np.testing.assert_allclose(corners[0], square.corners)
        window = square.window(photo.shape[:2])
        assert list(corners[1].values()) == list(window)
        expected = square.cut_out(photo)
        error = differences(as_image(cut), expected)
        assert error.mean() < 0.5 and error.max() <= 6
        error = differences(as_image(back), square.put_back(expected, window))
        assert error.mean() < 0.5 and error.max() <= 6
        assert differences(as_image(inside), square.inside(window)).mean() < 255 * 0.003


def test_masks_of_aligned_faces(run_javascript, as_image, landmarks):
    """Eyes, what is found, its rim, how much it covers, and how it lies in the photo."""
    points = (landmarks - (60, 45)) * 1.5 + 48
    y, x = np.mgrid[:SIDE, :SIDE]
    probability = (1 / (1 + np.exp(-(22 - np.hypot(x - 48, (y - 62) * 1.2)) / 3))).astype(np.float32)
    probability[10:12, 10:12] = 1  # A speck, and a hole.
    probability[62:65, 40:44] = 0
    square = FaceSquare.around(landmarks, SIDE, 4 / 3)
    window = Window(20, 10, 80, 70)
    result = run_javascript(
        """import { FaceSquare } from './align.js';
           import { grown } from './inpainter.js';
           import { foundMask, lowerFaceCover } from './mask_finder.js';
           import { eyes } from './points.js';""",
        """const { points, size } = input;
           const found = foundMask(Float32Array.from(input.probability.flat()), points, size);
           const certain = foundMask(Float32Array.from(input.probability.flat()), points, size, 0.5);
           const square = FaceSquare.around(input.landmarks, size, 4 / 3);
           const window = { x: 20, y: 10, width: 80, height: 70 };
           return { eyes: eyes(points, size, size), found, certain, grown: grown(found, points),
                    back: square.putMaskBack(found, window), cover: lowerFaceCover(certain, points) };""",
        points=points,
        size=SIDE,
        probability=probability,
        landmarks=landmarks,
    )
    found = mask_finder.found_mask(probability, points)
    certain = mask_finder.found_mask(probability, points, 0.5)
    expected = {
        "eyes": eyes(points, (SIDE, SIDE)),
        "found": found,
        "certain": certain,
        "grown": grown(found, points),
        "back": square.put_mask_back(found, window),
    }
    for name, mask in expected.items():
        assert mask.any()
        assert differences(as_image(result[name]), mask).mean() < 255 * 0.002, name
    assert result["cover"] == pytest.approx(mask_finder.lower_face_cover(certain, points), abs=0.005)


def test_views(run_javascript, as_image, photo):
    views = run_javascript(
        "import { darkened, leveled, mirrored } from './mask_finder.js';",
        "const photo = image(input.photo); return [mirrored(photo), leveled(photo), darkened(photo)];",
        photo=photo,
    )
    for view, name in zip(views, ("mirrored", "leveled", "darkened"), strict=True):
        assert differences(as_image(view), getattr(mask_finder, name)(photo)).max() <= 1, name


def one_colour(lightness, tint, noise=0.0):
    """Pixels `[N, 3]` whose channels differ from their lightness by `tint` times a smooth function of it."""
    pixels = lightness[:, None] + np.sin(lightness / 255 * np.pi)[:, None] * tint
    return np.clip(np.rint(pixels + np.random.default_rng(0).normal(0, noise, pixels.shape)), 0, 255).astype(np.uint8)


def test_one_colour(run_javascript):
    """Sepia, grey, a narrow range, three levels, one; and two colours, and one with too much noise."""
    rng = np.random.default_rng(0)
    wide, narrow = rng.integers(20, 240, 8000), rng.integers(100, 121, 8000)
    sepia, few = np.array([40, 5, -30]), rng.choice([90, 100, 130], 5000)
    cut_off = np.rint(np.minimum(wide[:, None] * [1.35, 1.2, 0.94], 255)).astype(np.uint8)
    one = [
        one_colour(wide, sepia, 1.0),
        cut_off,
        one_colour(wide, np.zeros(3), 1.0),
        one_colour(narrow, sepia, 1.0),
        one_colour(few, sepia),
        one_colour(few[:1], sepia),
    ]
    more = [np.concatenate([one[0], one_colour(wide, -sepia)]), one_colour(wide, sepia, 5.0)]
    results = run_javascript(
        "import { oneColoured } from './one_colour.js';",
        "return input.photos.map((pixels) => oneColoured(image(pixels).data));",
        photos=one + more,
    )
    assert all(one_coloured(pixels) is None for pixels in more) and results[len(one) :] == [None] * len(more)
    for pixels, shades in zip(one, results, strict=False):
        there = np.unique(cv2.cvtColor(pixels[None], cv2.COLOR_RGB2GRAY))
        difference = differences(np.reshape(shades, (256, 3)), one_coloured(pixels))
        assert difference[there].max() <= 1
        if len(there) > 7:  # Of fewer levels, what lies between them could be anything.
            assert difference.max() <= 1


def test_what_the_segmentation_network_sees(run_javascript, as_image):
    """A photo of one colour in grey; in colour, as it is."""
    face = render_face(3, seed=0, size=200)
    sepia = np.rint(np.dot(face.image, [0.299, 0.587, 0.114])[..., None] * [1.0, 0.85, 0.6]).astype(np.uint8)
    in_colour, in_grey, needed = run_javascript(
        "import { MaskFinder, neededCover } from './mask_finder.js';",
        "const finder = new MaskFinder({ size: 96, zoom: 1.2 });"
        "const seen = [input.photo, input.sepia].map((photo) => finder.image(image(photo), finder.square(input.landmarks)));"
        "const needed = seen.map((of) => neededCover(of, input.landmarks));"
        "return [...seen, [...needed, neededCover(seen[0], input.squeezed)]];",
        photo=face.image,
        sepia=sepia,
        landmarks=face.landmarks,
        squeezed=face.landmarks * [1, 0.6],
    )
    assert needed == [0.3, 0.5, 0.5]
    assert mask_finder.needed_cover(face.image, face.landmarks * [1, 0.6]) == 0.5
    finder = mask_finder.MaskFinder(SimpleNamespace(size=96, zoom=1.2))
    square = finder.square(face.landmarks)
    assert differences(as_image(in_colour), finder.image(face.image, square)).max() <= 2
    assert differences(as_image(in_grey), finder.image(sepia, square)).max() <= 2
    assert np.ptp(as_image(in_grey), axis=-1).max() == 0


def test_a_mask_that_goes_on_below_the_square(run_javascript, as_image):
    """Networks that find green."""

    class Green:
        size, zoom = 96, 1.2

        def __call__(self, images):
            return np.where((images[..., ::2] == 0).all(axis=-1), images[..., 1], 0).astype(np.float32) / 255

    face = render_face(3, seed=0, size=200)
    photo = cv2.copyMakeBorder(face.image, 0, 60, 0, 0, cv2.BORDER_REPLICATE)
    finder = mask_finder.MaskFinder(Green())
    (x, chin), edge = face.landmarks[8].astype(int), round(finder.square(face.landmarks).corners[:, 1].max())
    photo[chin - 30 : edge + 9, x - 20 : x + 20] = photo[edge + 20 : edge + 28, x - 20 : x + 20] = (0, 255, 0)
    photo[edge + 3 : edge + 9, x - 20 : x + 20] = (0, 60, 0)  # Less sure, but close.
    square = FaceSquare.around(face.landmarks, 128, 4 / 3).moved(0, 0.3)
    scarf = photo.copy()
    scarf[chin:, x - 20 : x + 20] = (0, 255, 0)
    below = run_javascript(
        "import { FaceSquare } from './align.js'; import { MaskFinder } from './mask_finder.js';",
        """
        const isGreen = (data) => Float32Array.from({ length: data.length / 3 },
          (_, i) => (data[3 * i] === 0 && data[3 * i + 2] === 0 ? data[3 * i + 1] / 255 : 0));
        const finder = new MaskFinder({ size: 96, zoom: 1.2, probability: async ({ data }) => isGreen(data) });
        const results = [], { landmarks } = input;
        for (const photo of input.photos.map((rows) => image(rows))) {
          const seen = await finder.look(photo, landmarks);
          results.push(await finder.maskBelow(photo, seen, new FaceSquare(input.corners, 128)));
        }
        return results;
        """,
        photos=[photo, scarf],
        landmarks=face.landmarks,
        corners=square.corners,
    )
    expected = finder.mask_below(photo, finder.look(photo, face.landmarks), square)
    assert not as_image(below[1]).any()
    assert (as_image(below[0]) == expected).mean() > 0.998 and 0.02 < (expected[96:] > 0).mean() < 0.3


def test_the_face_of_the_self_test(run_javascript, as_image):
    face = run_javascript("import { testFace } from './self_test.js';", "return testFace(128);")
    assert differences(as_image(face), networks.test_face(128)).max() <= 1
    (found,) = detect_faces(networks.test_face(128))
    assert found.score > 0.7


@pytest.mark.parametrize("value", [0, "NaN"])
@pytest.mark.parametrize("wrong", ["heat", "sizes", "offsets", "points", "landmarks", "segmentation", None])
def test_the_self_test_sees_what_is_wrong(run_javascript, wrong, value):
    """Networks that give what is expected, but for one output; the last one is right in any case."""
    expected = networks._expected_of_detector()
    maps = np.repeat(np.repeat(np.reshape(expected, (4, 4, 15)), 8, axis=0), 8, axis=1).transpose(2, 0, 1)
    result = run_javascript(
        "import { selfTest } from './self_test.js';",
        """
        const { wrong, value, maps, expected } = input;
        const given = (name, values) => Float32Array.from(values.flat(3), (x) => (name === wrong ? Number(value) : x));
        const ranges = { heat: [0, 1], sizes: [1, 3], offsets: [3, 5], points: [5, 15] };
        const output = Object.entries(ranges).map(([name, range]) => [name, given(name, maps.slice(...range))]);
        const landmarks = { size: 8, landmarks: () => [[...given("landmarks", [1, 2])]] };
        const segmentation = { size: 8, probability: () => given("segmentation", Array(64).fill(0.5)) };
        const described = { detector: { expected }, landmarks: { expected: [1, 2] }, segmentation: { expected: [0.5] } };
        const share = await selfTest({ detector: () => Object.fromEntries(output), landmarks, segmentation }, described);
        return { isRight: share <= 1 };
        """,
        wrong=wrong,
        value=value,
        maps=maps,
        expected=expected,
    )
    assert result["isRight"] == (wrong is None)


@pytest.mark.parametrize(
    ("script", "modules"),
    [
        ("align.js", [align]),
        ("compositing.js", [compositing_module]),
        ("detection.js", [detection]),
        ("face_aligner.js", [face_aligner]),
        ("grain.js", [grain_module]),
        ("inpainter.js", [inpainter]),
        ("mask_finder.js", [mask_finder]),
        ("one_colour.js", [one_colour_module]),
        ("self_test.js", [networks]),
        ("unmasker.js", [unmasker_module, face_module]),
    ],
)
def test_numbers_that_stand_in_both_languages(script, modules):
    text = (STATIC / script).read_text()
    found = dict(re.findall(r"^(?:export )?const ([A-Z_]+) = (-?[\d.]+(?: / \d+)?);", text, re.MULTILINE))
    found.pop("STEP", None)  # Of align.js: of which rows and columns a median is taken; Python has it in a slice.
    assert found
    for name, value in found.items():
        (expected,) = {vars(module)[name] for module in modules if name in vars(module)}
        assert Fraction(value.replace(" ", "")) == Fraction(str(expected)), name


def test_the_page_names_the_least_width():
    assert f"narrower than {face_module.LEAST_WIDTH} pixels" in (STATIC / "index.html").read_text()


@pytest.mark.parametrize(
    "sentence",
    [
        "Nothing in a photo tells what is under a mask: the lower face is made up.",
        "Do not use it to identify anyone, and do not pass off a result as a photo of a bare face.",
        "Files that you download say in their metadata that they are synthetic",
        "Other skin tones, ages and poses are rarer in them, and results are worse there.",
        "whose MODEL_CARD.md has their data, scores and recipes",
        "they are for research, not for commercial use",
        "The program is under the Apache License 2.0; CenterFace and ONNX Runtime Web are under the MIT License: all licences.",
    ],
)
def test_the_page_tells_its_limits_and_licences(sentence):
    _, _, notice = (STATIC / "index.html").read_text().partition('<section id="notice"')
    assert sentence in " ".join(re.sub(r"</?(strong|a|span|code)\b[^>]*>", "", notice).split())
    assert 'href="licences.txt"' in notice and (STATIC / "licences.txt").exists()


def test_which_boxes_are_of_one_face(run_javascript):
    face, eye, other = [0, 0, 100, 100], [20, 30, 40, 45], [90, 0, 190, 100]
    pairs = [(face, face), (face, eye), (eye, face), (face, other), (eye, other), (face, [40, 0, 140, 100])]
    results = run_javascript(
        "import { areSameFace, overlap } from './detection.js';",
        "return input.pairs.map(([a, b]) => [overlap(a, b), areSameFace(a, b)]);",
        pairs=pairs,
    )
    for result, pair in zip(results, pairs, strict=True):
        boxes = [np.array(box, float) for box in pair]
        assert result == [pytest.approx(overlap(*boxes)), are_same_face(*boxes)]


def test_which_detections_are_faces(run_javascript, landmarks):
    """Landmarks that are moved away from the detector's eyes, and that are larger than its box."""
    points = np.array([landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0), *landmarks[[30, 48, 54]]])
    found = Detection(np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]), 0.8, points)
    large = landmarks.copy()
    large[:17] = (60, 33) + 2 * (landmarks[:17] - (60, 33))
    cases = [landmarks, landmarks + (4.8, 0), landmarks + (8.4, 0), large, np.zeros((68, 2))]
    results = run_javascript(
        "import { isFace } from './face_aligner.js';",
        "return input.cases.map((landmarks) => isFace({ box: input.box, points: input.points }, landmarks));",
        box=found.box,
        points=points,
        cases=[case.tolist() for case in cases],
    )
    assert results == [bool(is_face(found, case)) for case in cases] == [True, True, False, False, False]


def test_a_connection_that_stalls(run_javascript):
    """It is given up after a while without a piece; here, at once."""
    message, pauses = run_javascript(
        "import { download } from './download.js';",
        """const pauses = [];
           globalThis.setTimeout = (stop, pause) => { pauses.push(pause); if (pauses.length > 1) queueMicrotask(stop); };
           globalThis.fetch = async (_, { signal }) => new Response(new ReadableStream({
             start(stream) {
               stream.enqueue(new Uint8Array(10));
               signal.addEventListener("abort", () => stream.error(signal.reason));
             },
           }));
           const file = { file: "networks/some.onnx", bytes: 100, sha256: "" };
           return [await download(file, () => {}, () => {}).catch((error) => error.message), pauses];""",
    )
    assert message.startswith("some.onnx could not be loaded; check the connection")
    assert pauses == [60_000, 60_000]


# With the detector of a site, as the page runs it.
DETECTOR = """
    const file = (path) => readFileSync(`${input.site}/${path}`);
    const ort = await import(`file://${input.site}/runtime/ort.wasm.bundle.min.mjs`);
    Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: file("runtime/ort-wasm-simd-threaded.wasm") });
    const session = await ort.InferenceSession.create(file("networks/detector.onnx"), { logSeverityLevel: 3 });
    const run = async ({ picture: [levels, shape] }) => {
      const outputs = await session.run({ picture: new ort.Tensor("float32", levels, shape) });
      return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, data]));
    };"""


def small_faces():
    """A wide photo in which most faces leave traces only, `[180, 2600, 3]`."""
    photo = np.full((180, 2600, 3), 150, np.uint8)
    for i in range(12):
        face = cv2.resize(render_face(i % 5, seed=0, size=256).image, (40, 40), interpolation=cv2.INTER_AREA)
        photo[20 + i % 3 * 50 : 60 + i % 3 * 50, 30 + 210 * i : 70 + 210 * i] = face
    return photo


def close_up():
    """A photo that a face fills, so large that it is shrunk before it gets its border."""
    face = render_face(1, seed=0, size=1200)
    left, top = face.landmarks.min(axis=0).astype(int)
    right, bottom = face.landmarks.max(axis=0).astype(int)
    return cv2.resize(face.image[top:bottom, left:right], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)


def turned_faces():
    """One on its side, and one on its head."""
    photo = np.full((300, 420, 3), 150, np.uint8)
    photo[40:280, 160:400] = np.rot90(render_face(3, seed=0, size=240).image)
    photo[100:220, 20:140] = np.rot90(render_face(1, seed=0, size=120).image, 2)
    return photo


def test_the_same_detections(run_javascript, site):
    """Their boxes and points, to a fraction of the box."""
    photos = [small_faces(), close_up(), turned_faces()]
    expected = detect_faces(photos[0]), detect_close_up(photos[1]), detect_turned(photos[2])
    assert len(expected[0]) == 12 and len(expected[1]) == 1 and len(expected[2]) >= 2
    results = run_javascript(
        "import { detectCloseUp, detectFaces, detectTurned } from './detection.js';",
        f"""{DETECTOR}
            const [small, close, turned] = input.photos.map((rows) => image(rows));
            return [await detectFaces(small, run), await detectCloseUp(close, run), await detectTurned(turned, run)];""",
        site=str(site),
        photos=photos,
    )
    for found, faces in zip(results, expected, strict=True):
        assert len(found) == len(faces)
        for face in faces:
            same = min(found, key=lambda other: differences(other["points"], face.points).max())
            side = max(face.box[2:] - face.box[:2])
            assert differences(same["points"], face.points).max() < 0.02 * side
            assert differences(same["box"], face.box).max() < 0.02 * side
            assert same["score"] == pytest.approx(face.score, abs=0.02)


def test_which_searches_a_photo_needs(run_javascript, site, monkeypatch):
    """Whatever is detected counts as a face: one that fills the photo beside a stranger, and another that is not as close."""
    close = close_up()
    beside = cv2.resize(render_face(2, seed=0, size=300).image, (close.shape[0] // 3,) * 2, interpolation=cv2.INTER_AREA)
    beside = cv2.copyMakeBorder(beside, 20, len(close) - len(beside) - 20, 0, 0, cv2.BORDER_CONSTANT, value=(128,) * 3)
    photos = [np.concatenate([beside, close], axis=1), turned_faces(), render_face(1, seed=0, size=300).image]
    monkeypatch.setattr(unmasker_module.Unmasker, "_aligned", lambda _, photo, found: [(face, None) for face in found])
    monkeypatch.setattr(unmasker_module.Unmasker, "_with_mask", lambda _, photo, found, *__: found)
    unmasker = unmasker_module.Unmasker(*[SimpleNamespace(inpaints=True)] * 3)
    expected = [unmasker.find(photo) for photo in photos]
    assert [len(faces) for faces in expected] == [2, 2, 1]
    results = run_javascript(
        "import { Unmasker } from './unmasker.js';",
        f"""{DETECTOR}
            class Accepting extends Unmasker {{
              aligned(photo, found) {{ return found; }}
              withMask(photo, face) {{ return {{ ...face, leftOut: "" }}; }}
            }}
            const unmasker = new Accepting({{ detector: run }});
            const results = [];
            for (const rows of input.photos) results.push(await unmasker.find(image(rows)));
            return results;""",
        site=str(site),
        photos=photos,
    )
    for found, faces in zip(results, expected, strict=True):
        assert len(found) == len(faces)
        for one, face in zip(found, faces, strict=True):
            assert differences(one["box"], face.box).max() < 0.02 * max(face.box[2:] - face.box[:2])


@pytest.mark.parametrize("kind, looks", [("bare", [4, 4, 4]), ("worn", [4, 1, 1]), ("put on", [1, 4, 1])])
def test_a_face_that_is_followed_is_redrawn_only_if_all_views_showed_its_mask(run_javascript, photo, landmarks, kind, looks):
    """A bare face that is mistaken for a masked one in one view, a mask, and one that is put on: by frames, how often the
    segmentation network looks."""
    photo = photo.copy()
    photo[:, :60] //= 2  # Its mirror image is lighter on the left.
    results = run_javascript(
        """import { FaceNetwork } from './face_network.js';
           import { Unmasker } from './unmasker.js';""",
        """let frame, looks;
           const run = async ({ picture: [values] }) => {
             looks++;
             const side = (x) => values.reduce((sum, value, i) => sum + (i % (3 * 64) < 96 === x ? value : 0), 0);
             const seen = { bare: side(true) < side(false), worn: true, "put on": frame > 0 }[input.kind];
             return { likelihood: new Float32Array(64 * 64).fill(seen ? 1 : 0) };
           };
           const network = new FaceNetwork(run, { size: 64, zoom: 1 });
           const unmasker = new Unmasker({ segmentation: network, landmarks: network, generator: network });
           let face = { box: [35, 20, 85, 70], score: 1, landmarks: input.landmarks };
           const results = [];
           for (frame = 0; frame < 3; frame++) {
             looks = 0;
             face = await unmasker.withMask(image(input.photo), face);
             results.push([face.masked, looks]);
           }
           return results;""",
        photo=photo,
        landmarks=landmarks,
        kind=kind,
    )
    masked = {"bare": [False] * 3, "worn": [True] * 3, "put on": [False, True, True]}[kind]
    assert results == [list(frame) for frame in zip(masked, looks, strict=True)]


def test_tilted_faces_are_such_by_their_own_landmarks_alone(run_javascript, site):
    face = render_face(3, seed=0, size=320)
    cases = []
    for degrees in (0, 45, 180):
        matrix = cv2.getRotationMatrix2D((159.5, 159.5), degrees, 0.7)
        photo = cv2.warpAffine(face.image, matrix, (320, 320), borderMode=cv2.BORDER_REPLICATE)
        landmarks = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
        cases += [(photo, landmarks), (photo, landmarks + (60, 0))]
    results = run_javascript(
        "import { isFaceUpright } from './face_aligner.js';",
        f"""{DETECTOR}
            const results = [];
            for (const [rows, landmarks] of input.cases) results.push(await isFaceUpright(image(rows), landmarks, run));
            return results;""",
        site=str(site),
        cases=cases,
    )
    assert results == [is_face_upright(*case) for case in cases] == [True, False] * 3


def test_distance_transform(run_javascript, photo):
    mask = (photo[..., 1] > 60).astype(np.uint8) * 255
    result = run_javascript(
        "import { distanceTransform } from './morphology.js';", "return distanceTransform(image(input.mask));", mask=mask
    )
    expected = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    np.testing.assert_allclose(np.reshape(result, mask.shape), expected, atol=1e-3)


def test_telea(run_javascript, as_image, photo):
    mask = np.zeros(photo.shape[:2], np.uint8)
    cv2.line(mask, (10, 70), (100, 20), 255, 5)
    result = run_javascript(
        "import { telea } from './telea.js';", "return telea(image(input.photo), image(input.mask));", photo=photo, mask=mask
    )
    error = differences(as_image(result), telea(photo, mask))
    assert error[mask == 0].max() == 0
    assert error[mask > 0].mean() < 0.5


def test_what_a_larger_face_hides_stays(run_javascript, as_image, photo, landmarks):
    faces = []
    for shift, drawn in (((0, 0), None), ((-0.45 * np.ptp(landmarks[:, 0]), 9), 200), ((500, 0), 90)):
        points = landmarks + shift
        square = FaceSquare.around(points, 64, 4 / 3)
        mask, before = np.full((64, 64), 255, np.uint8), square.cut_out(photo)
        after = None if drawn is None else np.full_like(before, drawn)
        faces.append(Face(np.zeros(4), 1.0, points, square, 1.0, mask, before, after))
    result = run_javascript(
        "import { FaceSquare } from './align.js'; import { composite } from './compositing.js';",
        """const faces = input.points.map((landmarks, i) => {
             const square = FaceSquare.around(landmarks, 64, 4 / 3);
             return { landmarks, square, mask: image(input.mask), after: i && image(input.after[i - 1]), rest: [] };
           });
           return composite(image(input.photo), faces).result;""",
        photo=photo,
        points=[face.landmarks for face in faces],
        mask=faces[0].mask,
        after=[face.after for face in faces[1:]],
    )
    expected = composite(photo, faces)
    alone = composite(photo, faces[1:])
    assert (differences(expected, alone) > 5).sum() > 100
    assert differences(as_image(result), expected).mean() < 0.02


def test_which_face_a_given_mask_belongs_to(run_javascript, landmarks):
    """Beside a small face, and one that is left out."""
    places = ((0.6, (0, 10), ""), (0.3, (45, 20), ""), (0.3, (10, 50), "too small"))
    points = [landmarks * scale + shift for scale, shift, _ in places]
    squares = [FaceSquare.around(each, 64, 4 / 3) for each in points]
    faces = [
        Face(np.zeros(4), 1.0, each, square, 1.0, None, None, left_out=why)
        for each, square, (*_, why) in zip(points, squares, places, strict=True)
    ]
    mask = np.full((90, 120), 255, np.uint8)
    mask[::7] = 127
    result = run_javascript(
        "import { FaceSquare } from './align.js'; import { nearestFaces } from './compositing.js';",
        """const faces = input.points.map((landmarks, i) => {
             return { landmarks, square: FaceSquare.around(landmarks, 64, 4 / 3), leftOut: input.why[i] };
           });
           return nearestFaces(image(input.mask), faces).data;""",
        points=points,
        why=[why for *_, why in places],
        mask=mask,
    )
    expected = nearest_faces(mask, faces)
    assert np.unique(expected).tolist() == [-1, 0, 1, 2]
    # But for outlines.
    assert (np.reshape(result, mask.shape) != expected).mean() < 0.003


def test_noise(run_javascript):
    noise = run_javascript("import { whiteNoise } from './grain.js';", "return whiteNoise(input.count);", count=512**2)
    np.testing.assert_allclose(np.reshape(noise, (512, 512)), grain_module._tile(), atol=1e-6)


def test_grain_and_compositing(run_javascript, as_image, photo, landmarks):
    """A face that was drawn too smooth, in a photo with noise, enlarged so that there is enough skin."""
    large = cv2.resize(photo, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(1).normal(0, 8, (*large.shape[:2], 1))
    large = np.clip(128 + (large - 128.0) * 0.2 + noise, 0, 255).astype(np.uint8)
    points = landmarks * 3
    square = FaceSquare.around(points, 64, 4 / 3)
    before = square.cut_out(large)
    mask = np.zeros((64, 64), np.uint8)
    mask[34:58, 14:50] = 255
    after = np.where(mask[..., None] > 0, cv2.GaussianBlur(before, (0, 0), 3), before)
    face = Face(np.zeros(4), 1.0, points, square, 1.0, mask, before, after)
    with_grain, without = run_javascript(
        "import { FaceSquare } from './align.js'; import { composite } from './compositing.js';",
        """const photo = image(input.photo);
           const square = FaceSquare.around(input.points, 64, 4 / 3);
           const [mask, after] = [input.mask, input.after].map((rows) => image(rows));
           const face = { landmarks: input.points, square, mask, after, rest: [] };
           return [composite(photo, [face], { grain: true }).result, composite(photo, [face]).result];""",
        photo=large,
        points=points,
        mask=mask,
        after=after,
    )
    expected = composite(large, [face]), composite(large, [face], grain=True)
    assert differences(*expected).mean() > 0.1  # There is grain.
    assert grain_module.COARSEST > 1
    for result, wanted in zip((without, with_grain), expected, strict=True):
        error = differences(as_image(result), wanted)
        changed = (wanted != large).any(axis=-1)
        assert error[changed].mean() < 0.6
        assert error[~changed].mean() < 0.02
