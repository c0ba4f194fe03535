"""`python gcs_emulator.py PORT`: gcp-storage-emulator, in memory, with a bucket named `bucket`.

It lacks what tensorstore and gcsfs also ask of Google's storage, which is added here: the generation of what is downloaded,
preconditions of uploads, and moving.
"""

import sys
from http import HTTPStatus

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

download = objects.download


def generation(storage, bucket, name):
    try:
        return storage.get_file_obj(bucket, name)["generation"]
    except NotFound:
        return "0"


def download_with_generation(request, response, storage):
    download(request, response, storage)
    response["x-goog-generation"] = generation(storage, request.params["bucket_name"], request.params["object_id"])


def insert_if(request, response, storage):
    """Refuses to replace an object of another generation than the one that is named; 0: if there is any."""
    wanted = request.query.get("ifGenerationMatch")
    data = request.data  # Read, or the connection would break.
    name = request.query["name"][0] if "name" in request.query else data["meta"]["name"]
    if wanted and wanted[0] != generation(storage, request.params["bucket_name"], name):
        response.status = HTTPStatus.PRECONDITION_FAILED
    else:
        objects.insert(request, response, storage)


def move(request, response, storage):
    bucket, name = request.params["bucket_name"], request.params["object_id"]
    if generation(storage, bucket, name) == "0":
        response.status = HTTPStatus.NOT_FOUND
        return
    response.json(objects._copy(request.base_url, storage, bucket, name, bucket, request.params["target"]))
    storage.delete_file(bucket, name)


objects.download = download_with_generation
server.HANDLERS = (
    (r"^/upload/storage/v1/b/(?P<bucket_name>[-.\w]+)/o$", {"POST": insert_if, "PUT": objects.upload_partial}),
    (r"^/storage/v1/b/(?P<bucket_name>[-.\w]+)/o/(?P<object_id>.+)/moveTo/o/(?P<target>.+)$", {"POST": move}),
    *server.HANDLERS,
)
server.create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="bucket").run()
