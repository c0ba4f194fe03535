"""The study as a web server: a page, the images under random names, and answers that go to the database."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import logging
import re
import socket
from collections.abc import Callable
from pathlib import Path

import cv2
import flask
import numpy as np
import waitress
import werkzeug.exceptions

from maskgan_jax.errors import UserError
from maskgan_jax.files import encode_png, read_image
from maskgan_jax.javascript.packages import package_file
from maskgan_jax.runtime.ports import binding
from maskgan_jax.study.database import Database, Unusable
from maskgan_jax.study.design import QUESTIONS
from maskgan_jax.study.images import Images

LOOPBACK = ("127.0.0.1", "localhost")
PAGE = Path(__file__).parent / "page"
PORTRAIT = Path(__file__).parents[1] / "data" / "portrait.jpg"
# By the names under which the page asks for them.
LIBRARIES = {
    "jspsych.js": "jspsych/dist/index.browser.min.js",
    "survey-html-form.js": "@jspsych/plugin-survey-html-form/dist/index.browser.min.js",
    "html-button-response.js": "@jspsych/plugin-html-button-response/dist/index.browser.min.js",
    "call-function.js": "@jspsych/plugin-call-function/dist/index.browser.min.js",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# A browser's key, as answers.js makes it.
KEY = re.compile("[0-9a-f]{48}")
# What one request may hold, in bytes.
LARGEST_REQUEST = 1_000_000


def create_app(database: Database, images: Images, host: str = "127.0.0.1") -> flask.Flask:
    """The server of a study.

    Args:
      database: the study.
      images: what it shows.
      host: where the server listens. Anywhere but on this machine alone, the page asks for the token `database.secret`.

    Raises:
      UserError: the JavaScript libraries have not been fetched.
    """
    app = flask.Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
    if host in LOOPBACK:  # So that no other site reaches the server by a name that it lets point to this computer.
        app.config["TRUSTED_HOSTS"] = list(LOOPBACK)
    else:
        _ask_for_token(app, database.secret)
    _add_headers(app)
    _add_errors(app)
    _add_files(app)
    _add_images(app, dataclasses.replace(images, expected=database.digests()), database.images())
    _add_answers(app, database)
    return app


def _ask_for_token(app: flask.Flask, secret: str) -> None:
    """Answers only those who once came with the token; a cookie keeps it."""
    # Cookies know no ports: with one name, two studies on one computer would take each other's.
    cookie = f"maskgan_study_{hashlib.sha256(secret.encode()).hexdigest()[:8]}"

    def is_secret(given: str) -> bool:
        return hmac.compare_digest(given.encode(), secret.encode())

    @app.before_request
    def check_access() -> flask.typing.ResponseReturnValue | None:
        given = flask.request.args.get("token", "")
        if flask.request.path == "/" and is_secret(given):
            response = flask.redirect("/")
            response.set_cookie(cookie, given, httponly=True, samesite="Lax", max_age=30 * 24 * 3600)
            return response
        if is_secret(flask.request.cookies.get(cookie, "")):
            return None
        sentence = "this study needs the whole address, as you were given it, with its token"
        if flask.request.path == "/":  # A person reads it.
            return flask.Response(f"{sentence[0].upper()}{sentence[1:]}.", 403, mimetype="text/plain")
        return _refusal(sentence, 403)


def _add_headers(app: flask.Flask) -> None:
    @app.after_request
    def add_headers(response: flask.Response) -> flask.Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


def _add_errors(app: flask.Flask) -> None:
    @app.errorhandler(Unusable)
    def cannot_store(error: Unusable) -> flask.typing.ResponseReturnValue:
        print(f"maskgan study: {error}; no answer is lost: the browsers keep them and try again", flush=True)
        return _refusal("the study's computer cannot read or store answers now; tell who runs the study", 507)

    @app.errorhandler(werkzeug.exceptions.HTTPException)
    def refuse_request(error: werkzeug.exceptions.HTTPException) -> flask.typing.ResponseReturnValue:
        return _refusal(error.name.lower(), error.code or 500)

    @app.errorhandler(UserError)
    def refuse(error: UserError) -> flask.typing.ResponseReturnValue:
        return _refusal(str(error), 400)


def _add_files(app: flask.Flask) -> None:
    """The page and the libraries that it loads; all are in memory, so that no name reaches another file."""
    html = (PAGE / "index.html").read_bytes()
    files = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.suffix in (".js", ".css")}
    files |= {name: package_file(path).read_bytes() for name, path in LIBRARIES.items()}

    @app.get("/")
    def index() -> flask.Response:
        return flask.Response(html, mimetype="text/html")

    @app.get("/favicon.ico")
    def icon() -> flask.typing.ResponseReturnValue:
        return "", 204

    @app.get("/page/<name>")
    def page_file(name: str) -> flask.typing.ResponseReturnValue:
        if name not in files:
            return _refusal("there is no such file", 404)
        return flask.Response(files[name], mimetype="text/css" if name.endswith(".css") else "text/javascript")


def _add_images(app: flask.Flask, images: Images, known: dict[str, tuple[str, str]]) -> None:
    """The study's images by their random names, and two to practise with, of the same size."""

    def png(read: Callable[[], np.ndarray]) -> flask.typing.ResponseReturnValue:
        try:
            # Encoded anew: neither the format, nor the size, nor what else is in a file tells which method it comes from.
            return flask.Response(encode_png(read()), mimetype="image/png")
        except UserError as error:
            # The path, which names the method, is for who runs the study.
            print(f"maskgan study: {error}", flush=True)
            return _refusal("an image cannot be read on the study's computer; tell who runs the study", 500)

    @app.get("/practice/<name>")
    def practice(name: str) -> flask.typing.ResponseReturnValue:
        if name not in ("0.png", "1.png"):
            return _refusal("there is no such image", 404)
        first = next(iter(known.values()))
        return png(lambda: _practice_images(*images.read(*first).shape[:2])[name == "1.png"])

    @app.get("/images/<name>")
    def image(name: str) -> flask.typing.ResponseReturnValue:
        name = name.removesuffix(".png")
        if name not in known:
            return _refusal("there is no such image", 404)
        return png(lambda: images.read(*known[name]))


def _add_answers(app: flask.Flask, database: Database) -> None:
    """What the page asks and says: the study's texts, a rater's trials, and the answers to them."""
    # No cookie tells one study from another on the same address, but the browser keeps answers under this name.
    settings = {"study": database.started, "consent": database.settings["consent"].split("\n\n")}
    names = {of: name for name, of in database.images().items()}

    @app.get("/study")
    def study() -> flask.Response:
        return flask.jsonify(settings)

    @app.post("/session")
    def session() -> flask.typing.ResponseReturnValue:
        request = _request()
        # Whoever read the consent of a study that has begun anew meanwhile has not agreed to this one.
        if request.get("study", settings["study"]) != settings["study"]:
            raise UserError("the study has begun anew since this page was opened; reload the page")
        rater = database.rater_of(request["key"])
        if not rater:
            if not isinstance(request.get("rater"), str):
                return flask.jsonify(rater=None)
            rater = database.join(request["key"], request["rater"])
        trials = [
            {
                "id": name,
                "task": trial.task,
                "images": [f"/images/{names[trial.face, method]}.png" for method in trial.methods],
                "questions": {question: list(choices) for question, choices in QUESTIONS[trial.task].items()},
            }
            for name, trial in database.trials(rater).items()
        ]
        return flask.jsonify(rater=rater, trials=trials, answered=sorted(database.answered(rater)))

    @app.post("/answers")
    def answers() -> flask.typing.ResponseReturnValue:
        request = _request()
        rater = database.rater_of(request["key"])
        if not rater or not isinstance(request.get("answers"), list):
            raise UserError("nobody with this key takes part in the study")
        stored, refused = database.store(rater, request["answers"])
        return flask.jsonify(stored=stored, refused=refused)


def listen(host: str, port: int) -> socket.socket:
    """A socket for `serve`; requests wait in it until then.

    Raises:
      UserError: the address is not of this machine, or something else listens there.
    """
    with binding(host, port, "--port or --host"):
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family)


def serve(app: flask.Flask, listener: socket.socket, host: str, token: str | None) -> None:
    """Serves the study until it is interrupted; prints its address."""
    server = waitress.create_server(app, sockets=[listener], threads=8, ident=None)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # It warns of every request that waits for a moment.
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{server.effective_port}/" + (f"?token={token}" if token else "")
    print(f"the study is at {address}\nCtrl-C ends it; the same command goes on with it", flush=True)
    try:
        server.run()
    finally:
        server.close()


def _request() -> dict:
    """The JSON object that was sent, with a browser's key in it. Raises UserError if it is none."""
    # Only the page itself can send this type: browsers let no other site do so.
    request = flask.request.get_json(silent=True)
    if not isinstance(request, dict) or not isinstance(request.get("key"), str):
        raise UserError("the request is not one of this study's page")
    if not KEY.fullmatch(request["key"]):
        raise UserError("the key is not one that this study's page makes: 48 digits from 0 to f")
    return request


def _refusal(sentence: str, status: int) -> flask.typing.ResponseReturnValue:
    return flask.jsonify(error=sentence), status


def _practice_images(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two images of the package's portrait, of this size: as it is, and with the lower half of the face blurred."""
    photo = read_image(PORTRAIT)[5:205, 128:328]  # The face.
    face = cv2.resize(photo, (width, height), interpolation=cv2.INTER_CUBIC)
    blurred = face.copy()
    blurred[height // 2 :] = cv2.GaussianBlur(face, (0, 0), width / 24)[height // 2 :]
    return face, blurred
