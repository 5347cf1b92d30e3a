"""The service over HTTP: its addresses, limits on the size and time of bodies, and errors as JSON."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..common.console import PROGRAM, json_text
from ..common.errors import LONGEST_SHOWN
from ..data.images import OversizeImageError, UnreadableImageError
from . import protocols
from .openapi import make_document, make_page
from .protocols import Picture, RequestError
from .service import BUSY, HELD, MIB, Service

JSON_LENGTH = "Inference-Header-Content-Length"
CLIENT_GONE = 499  # status in the metrics of a request whose client left, as in nginx
DRAINED, DRAIN_SECONDS = 64 * MIB, 2.0  # how much of a refused body is read, so that the client sees the answer
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # the metrics count others together
# Content types of a picture file; curl's --data-binary declares a form, but sends the file unchanged.
PICTURE_TYPES = ("", "application/octet-stream", "application/dicom", "application/x-www-form-urlencoded")
FORM = "multipart/form-data"
JSON_TYPES = ("", "application/json", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain")
PICTURE = "picture"  # the name of an image without a file name
Result = TypeVar("Result")
Work = Callable[[Request, "Upload"], Awaitable[Response]]


def make_app(service: Service) -> Starlette:
    """The ASGI application of a service."""
    api = _Api(service)
    tf, oip = "/v1/models/{name}", "/v2/models/{name}"
    tf_version, oip_version = f"{tf}/versions/{{version}}", f"{oip}/versions/{{version}}"
    post, get = partial(Route, methods=["POST"]), partial(Route, methods=["GET"])
    routes = [
        get("/", api.root),
        get("/docs", api.docs),
        get("/openapi.json", api.openapi),
        get("/metrics", api.metrics),
        post("/predict", api.uploading(api.predict)),
        *(post(f"{path}:{{verb}}", api.uploading(api.tf_serving)) for path in (tf, tf_version)),
        *(get(f"{path}/metadata", api.tf_metadata) for path in (tf, tf_version)),
        *(get(path, api.tf_status) for path in (tf, tf_version)),
        get("/v2", api.server),
        get("/v2/health/live", api.live),
        get("/v2/health/ready", api.ready),
        *(post(f"{path}/infer", api.uploading(api.infer)) for path in (oip, oip_version)),
        *(get(f"{path}/ready", api.model_ready) for path in (oip, oip_version)),
        *(get(path, api.oip_metadata) for path in (oip, oip_version)),
    ]
    handlers: Any = {RequestError: _refused, HTTPException: _http_error, Exception: _bug}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    app.add_middleware(_Counted, service=service)
    return app


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json_text(value), status, headers, "application/json")


def _refusal(error: RequestError) -> Response:
    return answer({"error": error.message}, error.status, error.headers)


async def _refused(request: Request, error: Any) -> Response:
    return _refusal(error)


async def _http_error(request: Request, error: Any) -> Response:
    path, method = request.url.path, request.method
    path = path if len(path) <= LONGEST_SHOWN else f"{path[:LONGEST_SHOWN]}…"
    known = {404: f"{path} does not exist; /docs lists all addresses", 405: f"{path} does not accept {method}"}
    return answer({"error": known.get(error.status_code, error.detail)}, error.status_code, error.headers)


async def _bug(request: Request, error: Exception) -> Response:
    return answer({"error": "internal error; the server's log has the details"}, 500)


class _Counted:
    """ASGI middleware that counts each request by its route and status."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, status = time.perf_counter(), CLIENT_GONE

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.service.metrics.count_request(route, method, status, time.perf_counter() - started)


class Upload:
    """The body of a request, with limits on its size, on the size of all bodies together, and on its time."""

    def __init__(self, service: Service, request: Request) -> None:
        self._service, self._request = service, request
        self._size = 0
        self._complete = request.method in ("GET", "HEAD")

    def check(self) -> None:
        """Raise RequestError if the headers declare an encoding, two ends of the body, or a length above the limit."""
        headers, most = self._request.headers, self._service.settings.max_upload
        if "transfer-encoding" in headers and "content-length" in headers:  # a proxy may have used the other one
            raise RequestError(400, "the header has both transfer-encoding and content-length; give one of them")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise RequestError(
                415, "content-encoding: the body must not be compressed", {"Accept-Encoding": "identity"}
            )
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > most:
            raise _too_large(most)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives.

        Raises:
            RequestError: With status 408 if it takes too long, 413 if it is too large, and 503 if all bodies together
                are too large.
        """
        settings = self._service.settings
        ends = asyncio.get_running_loop().time() + settings.timeout
        while not self._complete:
            try:
                async with asyncio.timeout_at(ends):
                    message = await self._request.receive()
            except TimeoutError:
                text = f"the request did not arrive within {settings.timeout:g} seconds"
                raise RequestError(408, text, {"Connection": "close"}) from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece = message.get("body", b"")
            self._complete = not message.get("more_body", False)
            self._size += len(piece)
            self._service.held += len(piece)
            if self._size > settings.max_upload:
                raise _too_large(settings.max_upload)
            if self._service.held > HELD * settings.max_upload:
                raise RequestError(503, "too many bodies are being received; try again later", BUSY)
            if piece:
                yield piece

    async def read(self) -> bytes:
        """The whole body; RequestError with status 400 if it is empty, otherwise as from `pieces`."""
        body = bytearray()
        async for piece in self.pieces():
            body += piece
        if not body:
            raise RequestError(400, "the body is empty")
        return bytes(body)

    async def refuse(self, response: Response) -> None:
        """Read part of a body before it is refused, so that the client sees the answer."""
        if self._complete:
            return
        response.headers["Connection"] = "close"
        if response.status_code == 408 or (self._size == 0 and "expect" in self._request.headers):
            return  # the client was too slow, or waits for permission to send
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                drained = 0
                while drained < DRAINED:
                    message = await self._request.receive()
                    drained += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    def release(self) -> None:
        """Stop counting the body as held in memory."""
        self._service.held -= self._size


def _too_large(most: int) -> RequestError:
    return RequestError(413, f"the body is too large: at most {most:,} bytes are accepted")


class _Form(MultiPartParser):
    spool_max_size = 1 << 62  # keep uploads in memory: they are bounded, and must not remain on a disk
    complete = False

    def on_end(self) -> None:
        self.complete = True


class _Api:
    """The functions of the addresses."""

    def __init__(self, service: Service) -> None:
        self.service = service

    # About the service

    async def root(self, request: Request) -> Response:
        return RedirectResponse("docs")

    async def live(self, request: Request) -> Response:
        return answer({"live": True})

    async def ready(self, request: Request) -> Response:
        ready = self.service.ready
        return answer({"ready": ready}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        page, content_type = self.service.metrics.page(request.headers.get("accept", ""))
        return Response(page, headers={"Content-Type": content_type})

    async def openapi(self, request: Request) -> Response:
        return answer(make_document(self.service.name, self.service.served, self.service.settings))

    async def docs(self, request: Request) -> Response:
        page, policy = make_page(make_document(self.service.name, self.service.served, self.service.settings))
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    # Requests with a body

    def uploading(self, work: Work) -> Callable[[Request], Awaitable[Response]]:
        """The function of an address with a body. work: A function of the request and its body."""

        async def address(request: Request) -> Response:
            upload = Upload(self.service, request)
            try:
                try:
                    _ = self.service.model
                    self.service.check_places()
                    upload.check()
                    return await work(request, upload)
                except RequestError as error:
                    response = _refusal(error)
                    await upload.refuse(response)
                    return response
            except ClientDisconnect:
                return Response(status_code=CLIENT_GONE)  # for the metrics; the client has left
            finally:
                upload.release()

        return address

    async def _while_there(self, request: Request, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of `work`. If the client leaves, cancel it and raise ClientDisconnect."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(request.receive())  # after the body, only a disconnection can arrive
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientDisconnect
            return task.result()
        finally:
            for each in (task, gone):
                each.cancel()

    async def _outputs(self, request: Request, pictures: list[Picture]) -> list[np.ndarray | UnreadableImageError]:
        return await self._while_there(request, self.service.outputs(pictures))

    async def _read_outputs(self, request: Request, pictures: list[Picture], where: str) -> np.ndarray:
        """The outputs, float32 (n, outputs); RequestError with status 400 names the first unreadable image."""
        found = await self._outputs(request, pictures)
        for number, each in enumerate(found):
            if isinstance(each, UnreadableImageError):
                status = 413 if isinstance(each, OversizeImageError) else 400
                raise RequestError(status, f"{where}[{number}]: the picture {each.reason}")
        return np.stack([each for each in found if isinstance(each, np.ndarray)])

    async def _parsed(self, parse: Callable[[], Result]) -> Result:
        """The result of a parser, which runs outside the thread that serves all connections."""
        return await asyncio.get_running_loop().run_in_executor(self.service.workers, parse)

    async def predict(self, request: Request, upload: Upload) -> Response:
        top = _top(request)
        kind = _content_type(request)
        if kind == FORM:
            names, pictures = await self._form(request, upload)
        elif kind in PICTURE_TYPES or kind.startswith("image/"):
            names, pictures = [PICTURE], [await upload.read()]
        else:
            raise RequestError(415, f"content-type: got {kind}; it takes a picture file as image/*, or {FORM}")
        found = await self._outputs(request, list(pictures))
        errors = [each for each in found if isinstance(each, UnreadableImageError)]
        if len(errors) == len(found):
            status = 413 if isinstance(errors[0], OversizeImageError) else 422
            raise RequestError(status, f"{names[0]}: {errors[0].reason}")
        return answer(self.service.predictions(names, found, top))

    async def _form(self, request: Request, upload: Upload) -> tuple[list[str], list[bytes]]:
        """The names and contents of the files in a form."""
        parser = _Form(request.headers, upload.pieces(), max_files=self.service.settings.max_queue, max_fields=16)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            status = 413 if error.message.startswith("Too many") else 400
            raise RequestError(status, f"the form cannot be read: {error.message}") from None
        files = [value for _, value in form.multi_items() if not isinstance(value, str)]
        try:
            if not parser.complete:
                raise RequestError(400, "the form is cut off: the boundary at its end is missing")
            if not files:
                raise RequestError(400, "the form has no file; with curl: -F image=@FILE")
            return [file.filename or PICTURE for file in files], [file.file.read() for file in files]
        finally:
            await form.close()

    # TensorFlow Serving

    def _check_model(self, request: Request) -> None:
        """Raise RequestError with status 404 if the address names another model or version."""
        name, version = request.path_params["name"], request.path_params.get("version", protocols.VERSION)
        if (name, version) != (self.service.name, protocols.VERSION):
            raise RequestError(
                404,
                f"{name}, version {version}, is not served; this server has {self.service.name}, version "
                f"{protocols.VERSION}",
            )

    async def tf_status(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name.endswith(":predict"):
            raise HTTPException(405, headers={"Allow": "POST"})
        self._check_model(request)
        return answer(protocols.tf_serving_status(self.service.ready))

    async def tf_metadata(self, request: Request) -> Response:
        self._check_model(request)
        return answer(protocols.tf_serving_metadata(self.service.model))

    async def tf_serving(self, request: Request, upload: Upload) -> Response:
        if (verb := request.path_params["verb"]) != "predict":
            raise RequestError(404, f"{verb} is not supported; use predict")
        self._check_model(request)
        _check_json_type(request)
        served, body = self.service.model, await upload.read()
        asked = await self._parsed(lambda: protocols.parse_tf_serving(served, body))
        outputs = await self._read_outputs(request, asked.pictures, "inputs" if asked.columnar else "instances")
        return Response(asked.answer(served, outputs), media_type="application/json")

    # The Open Inference Protocol

    async def server(self, request: Request) -> Response:
        return answer({"name": PROGRAM, "version": __version__, "extensions": ["binary_tensor_data", "classification"]})

    async def model_ready(self, request: Request) -> Response:
        self._check_model(request)
        ready = self.service.ready
        return answer({"name": self.service.name, "ready": ready}, 200 if ready else 503)

    async def oip_metadata(self, request: Request) -> Response:
        self._check_model(request)
        return answer(protocols.inference_metadata(self.service.model))

    async def infer(self, request: Request, upload: Upload) -> Response:
        self._check_model(request)
        _check_json_type(request)
        served, body, length = self.service.model, await upload.read(), request.headers.get(JSON_LENGTH)
        asked = await self._parsed(lambda: protocols.parse_inference(served, body, length))
        outputs = await self._read_outputs(request, asked.pictures, "inputs[0]")
        content, json_length = asked.answer(served, outputs)
        if json_length is None:
            return Response(content, media_type="application/json")
        return Response(content, headers={JSON_LENGTH: str(json_length)}, media_type="application/octet-stream")


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_json_type(request: Request) -> None:
    if (kind := _content_type(request)) not in JSON_TYPES:
        raise RequestError(415, f"content-type: got {kind}; it takes application/json")


def _top(request: Request) -> int | None:
    """The number of classes to return, from the query; None if it is not given."""
    text = request.query_params.get("top")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 7 and int(text) > 0):
        raise RequestError(400, f"top: got {text[:50]!r}; it takes an integer of at least 1")
    return int(text)
