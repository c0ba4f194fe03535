"""How tensorstore, in which Orbax keeps arrays, reaches a folder on a disk or in a bucket."""

from __future__ import annotations

import functools
import os
from typing import Any

from maskgan_jax.errors import UserError
from maskgan_jax.storage import is_remote


def key_value_store(folder: str | os.PathLike) -> dict[str, Any]:
    """tensorstore's description of a folder: an absolute path, `gs://BUCKET/FOLDER` or `s3://BUCKET/FOLDER`.

    As in other programs, `AWS_ENDPOINT_URL` leads to another server than Amazon's (MinIO, Ceph, a test's).
    """
    folder = os.fspath(folder)
    if not is_remote(folder):
        return {"driver": "file", "path": f"{folder}/"}
    scheme, _, rest = folder.partition("://")
    bucket, _, path = rest.partition("/")
    if scheme == "gs":
        return {"driver": "gcs", "bucket": bucket, "path": path}
    store = {"driver": "s3", "bucket": bucket, "path": path}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        store["endpoint"] = endpoint
    if "AWS_ACCESS_KEY_ID" in os.environ:  # Otherwise tensorstore would first complain that there are no files in ~/.aws.
        store["aws_credentials"] = {"type": "environment"}
    return store


@functools.cache
def teach_orbax_s3() -> None:
    """Makes Orbax store arrays at `s3://` URLs as it does at `gs://` URLs; tensorstore knows both.

    Orbax 0.12 writes everything else there, but refuses arrays: 'Checkpoint path should be absolute'. There is no public way
    to name another store, so three of its functions are replaced, each by one that differs for `s3://` alone.

    Raises:
      UserError: this Orbax has other functions.
    """
    try:
        from orbax.checkpoint._src.path import gcs_utils
        from orbax.checkpoint._src.serialization import tensorstore_utils

        normalized, of_google = tensorstore_utils._normalize_path, gcs_utils.get_kvstore_for_gcs
        tensorstore_utils._use_gcs_driver  # noqa: B018
    except (ImportError, AttributeError) as error:
        raise UserError(
            "this version of orbax-checkpoint cannot keep checkpoints at s3:// URLs; install orbax-checkpoint 0.12.8, or give "
            "a folder or a gs:// URL"
        ) from error
    tensorstore_utils._use_gcs_driver = is_remote
    tensorstore_utils._normalize_path = lambda path: normalized(path).replace("s3:/", "s3://", 1)
    gcs_utils.get_kvstore_for_gcs = lambda path: of_google(path) if path.startswith("gs://") else key_value_store(path)
