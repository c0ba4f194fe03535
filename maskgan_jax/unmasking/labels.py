"""Labels of synthetic results beyond metadata: a signed C2PA manifest (Content Credentials), and a visible mark."""

from __future__ import annotations

import datetime
import io
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from maskgan_jax import __version__
from maskgan_jax.errors import UserError
from maskgan_jax.unmasking.metadata import LABEL, SOURCE_TYPE

MARK = "AI-ALTERED"
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----\n?", re.DOTALL)


class Credentials:
    """Signs results: each gets a C2PA manifest that says what was done, and what it was made from."""

    def __init__(self, certificate: str | os.PathLike):
        """Loads the signer's certificate and key.

        Args:
          certificate: PEM file with the signer's certificate, those it was issued by, and the private key (ES256, PKCS #8); or
            'test' for one that is made now, which nobody trusts.

        Raises:
          UserError: the package for C2PA is not installed, or the file cannot be read or holds something else.
        """
        try:
            import c2pa
        except ImportError as error:
            raise UserError("--c2pa needs c2pa-python: pip install 'maskgan_jax[c2pa]'") from error
        self._c2pa = c2pa
        try:
            pem = throwaway_certificate() if os.fspath(certificate) == "test" else Path(certificate).read_bytes()
            chain, key = _chain_and_key(pem)
            signer = c2pa.C2paSignerInfo(alg=b"es256", sign_cert=chain, private_key=key, ta_url=None)
            self._signer = c2pa.Signer.from_info(signer)
            # Thumbnails would show the photo as it was. A photo may say that its manifests are at some URL.
            settings = {"builder": {"thumbnail": {"enabled": False}}, "verify": {"remote_manifest_fetch": False}}
            self._context = c2pa.Context.from_dict(settings)
            buffer = io.BytesIO(cv2.imencode(".png", np.zeros((1, 1), np.uint8))[1].tobytes())
            self._builder().sign(self._signer, "png", buffer, io.BytesIO())
        except OSError as error:
            raise UserError(
                f"cannot read {certificate} ({error.strerror}); give a PEM file as --c2pa, or --c2pa=test"
            ) from error
        except (c2pa.C2paError, ValueError) as error:
            raise UserError(
                f"cannot sign with {certificate} ({error}); it must hold certificates, and a key for ES256"
            ) from error

    def notes(self, form: str) -> tuple[str, ...]:
        """In words, why files of a format, as `sign` takes it, get no manifest, if it cannot hold one."""
        form = form.lower()
        can_hold = form in self._c2pa.Builder.get_supported_mime_types()  # Which are suffixes, too.
        return () if can_hold else (f"no C2PA manifest, which .{form} cannot hold",)

    def sign(self, path: Path, target: Path, form: str, original: Path | None = None, original_form: str = "") -> None:
        """Adds a manifest to a file, if its format can hold one.

        Args:
          path: of the file, which is replaced.
          target: what it will be called.
          form: its format, whatever its name: by Pillow's name, or the suffix of a video without the dot.
          original: what it was made from, whose own manifests are kept; None to say nothing of it.
          original_form: the format of the original.

        Raises:
          UserError: it cannot be written.
        """
        if self.notes(form):  # It cannot hold one.
            return
        with tempfile.TemporaryFile(dir=path.parent) as signed:  # Not in memory: a video can be larger.
            try:
                with path.open("rb") as file:
                    self._builder(original, original_form).sign(self._signer, form.lower(), file, signed)
            except self._c2pa.C2paError as error:
                raise UserError(f"cannot add a C2PA manifest to {target} ({error}); leave out --c2pa") from error
            signed.seek(0)
            try:
                with path.open("wb") as file:
                    shutil.copyfileobj(signed, file)
            except OSError as error:
                raise UserError(f"cannot write {target} ({error.strerror}); free space, or give another --out") from error

    def _builder(self, original: Path | None = None, form: str = "") -> Any:
        c2pa = self._c2pa
        builder = c2pa.Builder({"claim_generator_info": [{"name": "maskgan_jax", "version": __version__}]}, self._context)
        form = form.lower().replace("mpo", "jpeg")
        if original is None or form not in builder.get_supported_mime_types():
            builder.set_intent(
                c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA
            )
            return builder
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
        with original.open("rb") as file:
            builder.add_ingredient({"relationship": "parentOf", "title": original.name}, form, file)
        builder.add_action({"action": "c2pa.edited", "digitalSourceType": SOURCE_TYPE, "description": LABEL})
        return builder


def _chain_and_key(pem: bytes) -> tuple[bytes, bytes]:
    """The certificates of a PEM file, in their order, and its key. Raises ValueError if there is none that can be used."""
    blocks = [(block[1].decode(), block[0].rstrip() + b"\n") for block in _PEM.finditer(pem)]
    chain = b"".join(block for label, block in blocks if label == "CERTIFICATE")
    keys = {label: block for label, block in blocks if label.endswith("PRIVATE KEY")}
    if not keys:
        raise ValueError("it holds no private key")
    if "PRIVATE KEY" not in keys:
        kind = next(iter(keys))
        kind = {"EC PRIVATE KEY": "in SEC1 format", "ENCRYPTED PRIVATE KEY": "encrypted"}.get(kind, f"a {kind}")
        raise ValueError(f"its key is {kind}; replace the key by what 'openssl pkey -in FILE' prints")
    if not chain:
        raise ValueError("it holds no certificate")
    return chain, keys["PRIVATE KEY"]


def throwaway_certificate() -> bytes:
    """A certificate for signing and its key, PEM: made now, for trying; nobody trusts it, or has its issuer's key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    issuer_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name.from_rfc4514_string("CN=maskgan_jax test issuer,O=maskgan_jax test")
    subject = x509.Name.from_rfc4514_string("CN=maskgan_jax test,O=maskgan_jax test")
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, *[False] * 8), critical=True)  # Of nine uses, the first: to sign data.
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def draw_mark(image: np.ndarray) -> np.ndarray:
    """A copy of an image `[H, W, 3]` uint8 with `MARK` in its lower right corner, white on black."""
    image = np.ascontiguousarray(image).copy()
    height, width = image.shape[:2]
    scale, thickness = max(0.4, min(height, width) / 720), max(1, round(min(height, width) / 400))
    (across, up), down = cv2.getTextSize(MARK, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    margin = down
    left, bottom = width - across - 2 * margin, height - 2 * margin
    cv2.rectangle(image, (left, bottom - up - margin), (width - 1, height - 1), (0, 0, 0), cv2.FILLED)
    return cv2.putText(
        image, MARK, (left + margin, bottom), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), thickness, cv2.LINE_AA
    )
