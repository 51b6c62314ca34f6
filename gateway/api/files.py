"""/api/jobs/{id}/stdout, stderr, script, files: what a job reads and writes, streamed."""

import socket
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any

from flask import Response, jsonify, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from gateway.api.errors import ErrorSchema
from gateway.api.requests import ApiBlueprint, principal, secured, services
from gateway.api.schemas import FileSchema, StreamQuerySchema, rfc3339
from gateway.following import follow
from gateway.model import Job
from gateway.transport import FileEntry, RemoteFile

blueprint = secured(ApiBlueprint("files", __name__, url_prefix="/api/jobs", description="Files of jobs"))
CHUNK = 256 * 1024
MOST_FILES = 100_000
PLAIN = {"schema": {"type": "string", "format": "binary"}}


@blueprint.get("/<job_id>/<any(stdout, stderr):stream>")
@blueprint.arguments(StreamQuerySchema, location="query")
@blueprint.response(200, PLAIN["schema"], content_type="text/plain")
@blueprint.alt_response(206, schema=PLAIN["schema"], content_type="text/plain", description="the range asked for")
@blueprint.alt_response(416, schema=ErrorSchema, description="the file ends before that range")
def log(query: dict[str, Any], job_id: str, stream: str) -> Response:
    """The job's standard output or error output, as bytes"""
    job = services().jobs.with_one_log(principal(), job_id, stream)
    return send_log(job, 0, stream, query, ended=job.state.final)


def send_log(job: Job, task: int, stream: str, query: Mapping[str, Any], *, ended: bool) -> Response:
    """The log of a job, or of that task of an array; what a StreamQuerySchema asks for of it."""
    if query.get("follow") and not ended:  # of one that has, what is not there will not come any more
        return _follow(job, task, stream, query)
    file = services().jobs.open_log(job, stream, task)
    return send(file, "text/plain; charset=utf-8", _start_of(file, query))


def _follow(job: Job, task: int, stream: str, query: Mapping[str, Any]) -> Response:
    """What the log has, and what is written to it until the job or task ends."""
    service = services().jobs
    place = services().waiting.take()
    lines = follow(
        services().watch,
        job,
        task,
        lambda now: service.open_log(now, stream, task),
        lambda file: _start_of(file, query),
        gone=partial(_gone, request.environ.get("gunicorn.socket")),
    )
    response = Response(lines, content_type="text/plain; charset=utf-8")
    response.call_on_close(place.give_back)
    response.headers["X-Accel-Buffering"] = "no"  # nginx would hold it back
    response.headers["Content-Security-Policy"] = "sandbox"
    return response


def _gone(connection: socket.socket | None) -> bool:
    """Whether the client has closed the connection: else one that follows a silent log would stay for ever."""
    if connection is None:
        return False
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@blueprint.get("/<job_id>/script")
@blueprint.response(200, PLAIN["schema"], content_type="text/plain")
def script(job_id: str) -> Response:
    """The script as it was sent"""
    return Response(services().jobs.script(principal(), job_id), content_type="text/plain; charset=utf-8")


@blueprint.get("/<job_id>/request")
@blueprint.response(200, {"type": "object"})
def asked(job_id: str) -> Response:
    """What was asked for, as POST /api/jobs takes it; of a bundle without the bundle"""
    return jsonify(services().jobs.request(principal(), job_id))


@blueprint.get("/<job_id>/files/")
@blueprint.response(200, FileSchema(many=True))
def list_files(job_id: str) -> Response:
    """The files below the job's output folder, or its working directory where it has none"""
    entries = services().jobs.list_files(principal(), job_id, MOST_FILES)
    return jsonify([_entry(entry) for entry in entries])


@blueprint.get("/<job_id>/files/<path:path>")
@blueprint.response(200, PLAIN["schema"], content_type="application/octet-stream")
def file(job_id: str, path: str) -> Response:
    """One of these files, as bytes"""
    response = send(services().jobs.open_file(principal(), job_id, path), "application/octet-stream")
    # Never shown as a page of ours: whatever a job writes is only downloaded.
    response.headers["Content-Disposition"] = "attachment"
    return response


@blueprint.get("/<job_id>/output")
@blueprint.response(200, PLAIN["schema"], content_type="application/gzip")
def output(job_id: str) -> Response:
    """The job's output folder, or its working directory where it has none, as tar.gz"""
    return send_output(job_id)


def send_output(job_id: str) -> Response:
    """That folder, packed while it is sent."""
    job, packed = services().jobs.pack(principal(), job_id)
    first = next(packed, b"")  # what is wrong is known before the answer begins
    response = Response(chain([first], packed), content_type="application/gzip")
    response.call_on_close(packed.close)
    response.headers["Content-Disposition"] = f'attachment; filename="{job.job_id}.tar.gz"'
    return response


def _entry(entry: FileEntry) -> dict[str, Any]:
    return {"path": entry.path, "size": entry.size, "mtime": rfc3339(entry.mtime)}


def send(file: RemoteFile, content_type: str, start: int = 0) -> Response:
    """The file from `start`, or the one range of it that the client asked for, in constant memory."""
    try:
        begin, end, status = _extent(file.size, start)
    except BaseException:
        file.close()
        raise
    response = Response(_chunks(file, begin, end), status=status, content_type=content_type)
    response.call_on_close(file.close)
    response.content_length = end - begin
    response.accept_ranges = "bytes"
    response.last_modified = file.mtime
    response.headers["Content-Security-Policy"] = "sandbox"
    if status == 206:
        response.content_range.set(begin, end, file.size)
    return response


def _extent(size: int, start: int) -> tuple[int, int, int]:
    asked = request.range
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1 or start:
        return start, size, 200  # several ranges at once: RFC 9110 allows to answer with the whole
    if size and -asked.ranges[0][0] > size:
        return 0, size, 206  # the last so many bytes of fewer: all of them (RFC 9110, 14.1.2); werkzeug 3.1 refuses
    extent = asked.range_for_length(size)
    if extent is None:
        raise RequestedRangeNotSatisfiable(length=size, description=f"the file has {size} bytes")
    return extent[0], extent[1], 206


def _chunks(file: RemoteFile, begin: int, end: int) -> Iterator[bytes]:
    while begin < end:
        chunk = file.read(begin, min(CHUNK, end - begin))
        if not chunk:
            return  # it was cut short meanwhile
        begin += len(chunk)
        yield chunk


def _start_of(file: RemoteFile, query: Mapping[str, Any]) -> int:
    return _tail_start(file, query["tail"]) if "tail" in query else 0


def _tail_start(file: RemoteFile, lines: int) -> int:
    """Where the last so many lines begin. A final line without its newline counts."""
    if lines == 0:
        return file.size
    position, seen = file.size, 0
    while position > 0:
        begin = max(0, position - CHUNK)
        block = file.read(begin, position - begin)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            if begin + at == file.size - 1:
                continue  # the newline that ends the file
            seen += 1
            if seen == lines:
                return begin + at + 1
        position = begin
    return 0
