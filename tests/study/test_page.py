"""Whole sessions in headless Chromium: what raters press and tap is what the database holds, whatever happens meanwhile."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png
from maskgan_jax.javascript.packages import package_file
from maskgan_jax.study.database import Database
from maskgan_jax.study.design import EXPRESSIONS

CHROMIUM = os.environ.get("MASKGAN_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# Below this, in milliseconds, answers do not count.
FASTEST = 150


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install 'maskgan_jax[test_browser]'")
    if not CHROMIUM:
        pytest.skip("needs Chromium, e.g. apt-get install chromium")
    try:
        package_file("")
    except UserError as error:
        pytest.skip(str(error))
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Server:
    """`maskgan study serve` in a process of its own, on one port for good."""

    def __init__(self, folder, db, *flags):
        """Of the images in a folder with `ours`, `real` and `expressions.csv`."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.db, self.address = db, f"http://127.0.0.1:{self.port}/"
        self.command = [sys.executable, "-m", "maskgan_jax", "study", "serve", f"--images=ours={folder}/ours"]
        self.command += [
            f"--real={folder}/real",
            f"--expressions={folder}/expressions.csv",
            f"--db={db}",
            f"--port={self.port}",
        ]
        self.command += flags
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout.readline().startswith(f"the study is at {self.address}")

    def kill(self):
        """As a crash or a power failure would."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def answers(self):
        """{rater: what they answered, in order}."""
        answers = {}
        for answer in Database(self.db).answers():
            answers.setdefault(answer.rater, []).append(answer)
        return answers


@pytest.fixture
def serve(study_images, tmp_path):
    servers = []

    def start(*flags, folder=study_images):
        servers.append(Server(folder, tmp_path / "study.db", *flags))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()
        server.process.stdout.close()


class Rater:
    """A person at a browser."""

    def __init__(self, browser, server, script="", **options):
        self.context = browser.new_context(**options)
        self.page, self.touch = self.context.new_page(), options.get("has_touch", False)
        self.page.set_default_timeout(20_000)
        self.page.add_init_script(script)
        self.complaints, self.requests, self.given, self.took, self.painted = [], [], [], [], 0
        self.page.on("console", self.hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(server.address)

    def hear(self, message):
        # A page that is left while an answer is on its way asks first, which Chromium blocks if nobody has touched it since.
        if message.type == "error" and "'beforeunload' confirmation" not in message.text:
            self.complaints.append(message.text)

    def join(self, name):
        self.page.get_by_role("checkbox").check()
        self.page.get_by_label("Your id").fill(name)
        self.page.get_by_role("button", name="Begin").click()

    def go_on(self, label):
        button = self.page.get_by_role("button", name=label)
        button.wait_for()
        if self.touch:
            button.tap()
        else:
            self.page.keyboard.press("Enter")  # It has the focus.

    def until(self, condition):
        """Waits for a JavaScript expression to hold; returns its value. Playwright's own way needs eval, which is forbidden."""
        end = time.monotonic() + 20
        while not (value := self.page.evaluate(condition)):
            assert time.monotonic() < end, condition
            time.sleep(0.02)
        return value

    def press(self, key, label):
        """Answers the next question, by key or tap, as soon as answers count."""
        painted = "(performance.timeOrigin + Number(document.querySelector('.choices')?.dataset.painted))"
        ready = f"{painted} > {self.painted} && performance.timeOrigin + performance.now() > {painted} + {FASTEST + 20}"
        self.painted = self.until(f"{ready} && {painted}")
        since = f"performance.timeOrigin + performance.now() - {self.painted}"
        before = self.page.evaluate(since)
        if self.touch:
            self.page.locator(".choices button", has_text=re.compile(f"^{label}")).tap()
        else:
            self.page.keyboard.press(key)
        self.took.append((before, self.page.evaluate(since)))

    def rate(self, number, practice=False):
        """Expression and quality, others for each number."""
        expression, quality = EXPRESSIONS[number % 5], number % 7 + 1
        self.press(str(number % 5 + 1), expression.capitalize())
        self.press(str(quality), str(quality))
        if not practice:
            self.given.append({"expression": expression, "quality": quality})

    def nothing_waits(self):
        """Waits until the server has all answers."""
        self.until("!Object.keys(localStorage).some(key => key.includes('answer'))")

    def practise(self, times=2):
        self.page.get_by_role("button", name="Practise").wait_for()
        assert ("the key that is written on it" in self.page.inner_text("#study")) == (not self.touch)
        self.go_on("Practise")
        for number in range(times):
            self.rate(number, practice=True)
        self.go_on("Start")

    def is_thanked(self):
        self.page.get_by_role("heading", name="Thank you").wait_for()


PHONE = {"viewport": {"width": 375, "height": 667}, "device_scale_factor": 3, "has_touch": True, "is_mobile": True}


def test_a_session_by_keyboard(browser, serve, tmp_path):
    server = serve("--tasks=rating=2,pair=1,real=1", "--repeats=1")
    rater = Rater(browser, server)
    rater.join("anna")
    rater.practise()
    for number in range(5):
        rater.rate(number)
    rater.go_on("Practise")
    rater.press("ArrowLeft", "Left")
    rater.go_on("Start")
    buttons = rater.page.locator(".choices button")
    buttons.first.wait_for()
    assert buttons.evaluate_all("all => all.map(each => each.ariaKeyShortcuts)") == ["ArrowLeft", "ArrowRight"]
    for number in range(2):
        side = ("Left", "Right")[number % 2]
        rater.press(f"Arrow{side}", side)
        rater.given.append({"choice": side.lower()})
    rater.go_on("Practise")
    for _ in range(2):
        rater.press("r", "Real")
    rater.go_on("Start")
    for number in range(3):
        said = ("yes", "no")[number % 2]
        rater.press({"yes": "r", "no": "N"}[said], said)
        rater.given.append({"real": said})
    rater.is_thanked()
    (answers,) = server.answers().values()
    assert [answer.given for answer in answers] == rater.given
    assert [answer.trial for answer in answers] == Database(server.db).design.trials(0)
    assert {answer.scale for answer in answers} == {1}
    # Times run from the painted image to the key; those of practice are not stored.
    took = [*rater.took[4:14], *rater.took[15:17], *rater.took[19:]]
    stored = [milliseconds for answer in answers for milliseconds in answer.milliseconds.values()]
    for (before, after), milliseconds in zip(took, stored, strict=True):
        assert FASTEST < before - 1 <= milliseconds <= after + 1
    # Nothing was kept from the page by its policy, and no request tells a name or leaves the server.
    assert rater.complaints == []
    assert all(url.startswith(server.address) for url in rater.requests)
    assert not any("secret-name" in url or "ours" in url for url in rater.requests)
    rater.nothing_waits()
    # A finished rater who comes again is thanked again.
    rater.page.reload()
    rater.is_thanked()
    rater.context.close()


def test_times_run_from_the_frame_after_the_one_that_showed_the_image(browser, serve):
    """By the browser's own frames: what is there when a frame begins is painted in it, and seen when the next one begins."""
    script = """
      const shown = [], pressed = []; // The times of all frames that show each question, and of all answers.
      let last; // Each question has buttons of its own.
      const look = (time) => {
        const [image, button] = [".faces img", ".choices button"].map((each) => document.querySelector(each));
        if (button && image?.checkVisibility({ visibilityProperty: true })) {
          if (button !== last) shown.push([]);
          last = button;
          shown.at(-1).push(time);
        }
        requestAnimationFrame(look);
      };
      requestAnimationFrame(look);
      addEventListener("keydown", ({ key, timeStamp }) => Number(key) && pressed.push(timeStamp), true);
      window.recorded = { shown, pressed };
    """
    server = serve("--tasks=rating=1", "--repeats=0")
    rater = Rater(browser, server, script)
    rater.join("anna")
    rater.practise()
    for number in range(2):
        rater.rate(number)
    rater.is_thanked()
    frames, pressed = rater.page.evaluate("[recorded.shown, recorded.pressed]")
    assert len(frames) == len(pressed) == 8  # Two questions on each image, of practice and of trials.
    stored = [milliseconds for answer in server.answers()["anna"] for milliseconds in answer.milliseconds.values()]
    expected = [key - times[1] for times, key in zip(frames, pressed, strict=True)][4:]
    assert stored == pytest.approx(expected, abs=0.06)  # They are rounded to a tenth.
    rater.context.close()


def test_the_consent_text_is_shown_as_text(browser, serve, tmp_path):
    (tmp_path / "consent.txt").write_text("I take <b>part</b> & <img src=x>.\n\nOf my own will.")
    rater = Rater(browser, serve("--tasks=real=2", f"--consent={tmp_path}/consent.txt"))
    rater.page.get_by_role("checkbox").wait_for()
    assert rater.page.locator("#study b, #study img").count() == 0
    paragraphs = rater.page.locator("#study p").all_inner_texts()
    assert paragraphs[:2] == ["I take <b>part</b> & <img src=x>.", "Of my own will."]
    assert rater.complaints == []
    rater.context.close()


def test_a_session_by_touch_on_a_phone_with_reloads(browser, serve):
    server = serve("--tasks=rating=2", "--repeats=2")
    rater = Rater(browser, server, **PHONE)
    rater.join("bert")
    rater.practise()
    rater.rate(0)
    rater.rate(1)
    rater.press("3", "Angry")  # The first of two questions: it is asked again.
    rater.page.reload()
    rater.go_on("Go on")
    rater.rate(2)
    rater.page.goto("about:blank")
    rater.page.go_back()
    rater.page.reload()
    rater.go_on("Go on")
    image = rater.page.locator(".faces img")
    image.wait_for()
    # Each pixel of an image is three by three of the screen, and all fits on it.
    assert image.evaluate("image => image.getBoundingClientRect().width * devicePixelRatio / image.naturalWidth") == 3
    assert rater.page.evaluate(
        "document.documentElement.scrollWidth <= innerWidth && document.body.scrollHeight <= innerHeight"
    )
    sizes = rater.page.locator(".choices button").evaluate_all("all => all.map(each => each.getBoundingClientRect().height)")
    assert min(sizes) >= 44
    for number in range(3, 6):
        rater.rate(number)
    rater.is_thanked()
    (answers,) = server.answers().values()
    assert [answer.given for answer in answers] == rater.given
    assert {answer.scale for answer in answers} == {3}
    assert rater.complaints == []
    rater.context.close()


def test_times_away_are_not_told(browser, serve):
    """The page was left, hidden, and left open for hours, each during one answer."""
    server = serve("--tasks=rating=2", "--repeats=0")
    later = """
      let skipped = 0;
      const stamp = Object.getOwnPropertyDescriptor(Event.prototype, "timeStamp").get;
      Object.defineProperty(Event.prototype, "timeStamp", { get() { return stamp.call(this) + skipped; } });
      addEventListener("skip", () => (skipped = 3e7));
    """
    rater = Rater(browser, server, later)
    rater.join("anna")
    rater.practise()
    rater.rate(0)
    rater.press("1", "Neutral")
    rater.page.goto("about:blank")
    rater.page.go_back()
    rater.go_on("Go on")
    rater.rate(1)
    rater.press("2", "Happy")
    # Another tab, and back.
    rater.page.evaluate("document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))")
    rater.press("2", "2")
    rater.until("document.querySelector('#question').textContent.includes('expression')")
    rater.page.evaluate("dispatchEvent(new Event('skip'))")
    rater.press("3", "Angry")
    rater.press("3", "3")
    rater.is_thanked()
    times = [answer.milliseconds for answer in server.answers()["anna"]]
    known = [[milliseconds is not None for milliseconds in of.values()] for of in times]
    assert known == [[True, True], [False, False], [True, False], [False, False]]
    assert rater.complaints == []
    rater.context.close()


LAYOUT = """() => {
  const image = document.querySelector(".faces img"), { width, height } = image.getBoundingClientRect();
  return {
    scale: (width * devicePixelRatio) / image.naturalWidth,
    square: Math.abs(height / width - image.naturalHeight / image.naturalWidth) < 0.01,
    smooth: getComputedStyle(image).imageRendering === "auto",
    bottom: document.querySelector(".choices").getBoundingClientRect().bottom,
  };
}"""


def test_images_higher_than_the_screen_are_shrunk_smoothly(browser, serve, tmp_path):
    """Images of 400 x 800 px on a phone, which is turned before the answer."""
    rng = np.random.default_rng(0)
    names = [f"face{number}" for number in range(8)]
    for folder in ("real", "ours"):
        for name in names:
            write_png(tmp_path / "faces" / folder / f"{name}.png", rng.integers(0, 256, (800, 400, 3), np.uint8))
    (tmp_path / "faces" / "expressions.csv").write_text("".join(["file,expression\n", *(f"{n}.png,happy\n" for n in names)]))
    server = serve("--tasks=real=1", "--repeats=0", folder=tmp_path / "faces")
    rater = Rater(browser, server, **PHONE | {"device_scale_factor": 1})
    rater.join("anna")
    rater.go_on("Practise")
    for _ in range(2):
        rater.press("r", "Real")
    rater.go_on("Start")
    rater.page.locator(".faces img").wait_for()
    upright = rater.page.evaluate(LAYOUT)
    assert upright["scale"] == pytest.approx(0.55 * 667 / 800, rel=0.01)
    rater.page.set_viewport_size({"width": 667, "height": 375})
    rater.until("document.querySelector('.faces img').getBoundingClientRect().height < 300")
    turned = rater.page.evaluate(LAYOUT)
    assert turned["scale"] == pytest.approx(0.55 * 375 / 800, rel=0.01)
    for layout, height in ((upright, 667), (turned, 375)):
        assert layout["square"] and layout["smooth"] and layout["bottom"] <= height
    for _ in range(2):
        rater.press("r", "Real")
    rater.is_thanked()
    assert server.answers()["anna"][0].scale == pytest.approx(turned["scale"], rel=0.01)
    rater.context.close()


def test_a_server_that_dies_and_a_connection_that_is_lost(browser, serve):
    server = serve("--tasks=rating=3", "--repeats=1")
    rater = Rater(browser, server)
    rater.join("carl")
    rater.practise()
    rater.rate(0)
    rater.nothing_waits()
    server.kill()
    rater.rate(1)
    rater.page.get_by_text("your answers are kept in this browser").wait_for()
    rater.rate(2)
    assert len(server.answers()["carl"]) == 1
    server.start()
    rater.nothing_waits()
    assert len(server.answers()["carl"]) == 3
    rater.context.set_offline(True)
    rater.rate(3)
    # Answers arrive, but the browser never hears of it: they come again, also after a reload.
    deaf = True

    def swallow(route):
        if deaf:
            route.fetch()
            route.abort()
        else:
            route.continue_()

    rater.context.route("**/answers", swallow)
    rater.context.set_offline(False)
    rater.rate(4)
    rater.page.reload()
    rater.go_on("Go on")
    rater.rate(5)
    rater.page.get_by_text("your answers are kept in this browser").wait_for()
    deaf = False
    rater.rate(6)
    rater.is_thanked()
    assert [answer.given for answer in server.answers()["carl"]] == rater.given
    rater.context.close()


def test_a_full_disk_of_the_server_is_told_and_no_answer_is_lost_or_doubled(browser, serve):
    server = serve("--tasks=real=2", "--repeats=0")
    rater = Rater(browser, server)
    rater.join("fred")
    rater.go_on("Practise")
    for _ in range(2):
        rater.press("r", "Real")
    rater.go_on("Start")

    def answer(said):
        rater.press(*{"yes": ("r", "Real"), "no": ("n", "Not real")}[said])
        rater.given.append({"real": said})

    answer("yes")
    rater.nothing_waits()
    why = "the study's computer cannot read or store answers now; tell who runs the study"
    rater.context.route("**/answers", lambda route: route.fulfill(status=507, json={"error": why}))
    answer("no")
    sentence = f"The answers are not stored: {why}. Go on: your answers are kept in this browser and sent as soon as possible."
    rater.page.get_by_text(sentence, exact=True).wait_for()
    answer("no")
    # Nor does a reload lose them.
    rater.page.reload()
    rater.page.get_by_text(sentence, exact=True).wait_for()
    assert len(server.answers()["fred"]) == 1
    rater.context.unroute("**/answers")
    rater.go_on("Go on")
    answer("yes")
    rater.is_thanked()
    assert "All your answers are stored." in rater.page.inner_text("#study")
    assert [answer.given for answer in server.answers()["fred"]] == rater.given
    # That the status is one of failure is all that the console says.
    assert all("507" in complaint for complaint in rater.complaints)
    rater.context.close()


def test_answers_that_are_refused_stay_in_the_browser(browser, serve):
    """What makes them so here is a page that tells an impossible time."""
    server = serve("--tasks=real=2", "--repeats=0")
    rater = Rater(browser, server)
    rater.join("dora")
    rater.go_on("Practise")
    for _ in range(2):
        rater.press("r", "Real")
    rater.go_on("Start")

    def spoil(route):
        route.continue_(post_data=re.sub(r'"real":[0-9.]+', '"real":-1', route.request.post_data))

    rater.context.route("**/answers", spoil)
    for _ in range(2):
        rater.press("n", "Not real")
        rater.nothing_waits()
    rater.context.unroute("**/answers")
    for _ in range(2):
        rater.press("r", "Real")
    rater.is_thanked()
    message = "The study refused 2 of your answers: please tell who runs it. The others are stored."
    assert message in rater.page.inner_text("#study")
    rater.page.reload()
    rater.is_thanked()
    assert message in rater.page.inner_text("#study")
    kept = rater.page.evaluate("Object.keys(localStorage).filter(key => key.includes('refused')).map(key => localStorage[key])")
    assert len(kept) == 2 and all('"given":{"real":"no"}' in value and "a time is impossible" in value for value in kept)
    assert [answer.given for answer in server.answers()["dora"]] == [{"real": "yes"}] * 2
    rater.context.close()


def test_only_one_retry_waits_however_often_sending_fails(browser, serve):
    # The timers of two seconds that have not run yet.
    script = """
      window.retries = new Set();
      const [start, stop] = [window.setTimeout, window.clearTimeout];
      window.setTimeout = (run, time, ...rest) => {
        const timer = start(() => (retries.delete(timer), run()), time, ...rest);
        if (time === 2000) retries.add(timer);
        return timer;
      };
      window.clearTimeout = (timer) => (retries.delete(timer), stop(timer));
    """
    rater = Rater(browser, serve("--tasks=real=2", "--repeats=0"), script)
    rater.join("emil")
    rater.go_on("Practise")
    for _ in range(2):
        rater.press("r", "Real")
    rater.go_on("Start")
    rater.context.route("**/answers", lambda route: route.abort())
    for _ in range(3):
        rater.press("r", "Real")
        rater.page.evaluate("dispatchEvent(new Event('online'))")
        rater.page.wait_for_timeout(100)
    rater.until("retries.size")
    assert rater.page.evaluate("!dispatchEvent(new Event('beforeunload', { cancelable: true }))")
    assert rater.page.evaluate("retries.size") == 1
    rater.context.close()


def test_the_page_says_why_no_picture_comes(browser, serve, study_images, tmp_path):
    folder = shutil.copytree(study_images, tmp_path / "faces")
    server = serve("--tasks=real=2", "--repeats=0", folder=folder)
    shutil.rmtree(folder / "ours")
    rater = Rater(browser, server)
    rater.join("anna")
    sentence = (
        "A picture cannot be loaded: an image cannot be read on the study's computer; tell who runs the study; trying again."
    )
    rater.page.get_by_text(sentence).wait_for()
    shutil.copytree(study_images / "ours", folder / "ours")
    rater.page.get_by_role("button", name="Practise").wait_for()
    assert rater.page.inner_text("#status") == ""
    rater.context.close()


def test_a_second_tab_is_told_so(browser, serve):
    rater = Rater(browser, serve("--tasks=real=2", "--repeats=0"))
    rater.join("anna")
    rater.page.get_by_role("button", name="Practise").wait_for()
    second = rater.context.new_page()
    second.goto(rater.page.url)
    second.get_by_text("The study is open in another tab: go on there, or close it.").wait_for()
    rater.page.close()
    second.reload()
    second.get_by_role("button", name="Practise").wait_for()
    rater.context.close()


def test_two_raters_at_once(browser, serve):
    server = serve("--tasks=real=2", "--repeats=0")
    # The second one's browser has no room for anything.
    full = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }"
    raters = [Rater(browser, server), Rater(browser, server, full, **PHONE)]
    raters[1].page.get_by_text("This browser keeps nothing: leave this page open").wait_for()
    assert raters[0].page.inner_text("#status") == ""
    raters[0].join("-5")
    assert raters[0].page.locator("#rater:invalid").is_visible()
    raters[0].join("anna")
    raters[0].page.get_by_role("button", name="Practise").wait_for()
    raters[1].join("anna")
    raters[1].page.get_by_role("alert").get_by_text("Another rater has the id anna already").wait_for()
    raters[1].join("bert")
    for rater in raters:
        rater.go_on("Practise")
        for _ in range(2):
            rater.press("r", "Real")
        rater.go_on("Start")
    # Nothing waits: the page is left without a question.
    assert not raters[1].page.evaluate("!dispatchEvent(new Event('beforeunload', { cancelable: true }))")
    raters[1].page.get_by_text("This browser keeps nothing: leave this page open").wait_for()
    for number in range(4):
        for place, rater in enumerate(raters):
            said = ("yes", "no")[(number + place) % 2]
            rater.press({"yes": "r", "no": "n"}[said], {"yes": "Real", "no": "Not real"}[said])
            rater.given.append({"real": said})
    for rater, name in zip(raters, ("anna", "bert"), strict=True):
        rater.is_thanked()
        assert [answer.given for answer in server.answers()[name]] == rater.given
        assert [complaint for complaint in rater.complaints if "400" not in complaint] == []
        rater.context.close()
    trials = [Database(server.db).design.trials(number) for number in (0, 1)]
    assert trials[0] != trials[1]
