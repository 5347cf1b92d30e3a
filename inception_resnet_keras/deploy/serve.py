"""The server: a socket, a service and uvicorn, from the start to a graceful stop."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

from ..common.arguments import is_integer
from ..common.console import printable
from ..common.errors import InputError, refuse
from ..common.packages import required
from ..models.open import display_name, locate
from ..models.precision import Precision, check_precision

if TYPE_CHECKING:
    import keras

    from ..data.preprocessing import Convention
    from .service import Service, Settings

HOST = "127.0.0.1"
PORT = 8080
LOCAL = ("127.0.0.1", "::1", "localhost")
HEADER_SECONDS = 10.0  # maximum time for the header of a request, and for a client to read from its answer
KEEP_ALIVE = 75.0  # seconds that a connection stays open between requests, as in nginx
GRACE = 30.0  # seconds for requests in progress when the server stops
BACKLOG = 2048
LARGEST_HEADER = 32 * 1024  # bytes
SPARE_FILES = 64  # file descriptors for other purposes than connections


class _StoppedError(BaseException):
    """SIGTERM was received."""


def serve(
    model: keras.Model | str | PathLike[str],
    *,
    host: str = HOST,
    port: int = PORT,
    name: str | None = None,
    max_batch: int = 8,
    max_wait: float = 0.005,
    max_queue: int = 128,
    max_upload: int = 16 * 1024**2,
    max_pixels: int = 64 * 1024**2,
    timeout: float = 30.0,
    embedding: bool = False,
    classes: str | PathLike[str] | Sequence[str] | None = None,
    preprocessing: Convention | None = None,
    precision: Precision | None = None,
    trust: bool = False,
    say: Callable[[str], object] | None = None,
    note: Callable[[str], object] | None = None,
) -> None:
    """Serve a model over HTTP until SIGTERM or Ctrl-C.

    The images of concurrent requests go through the model in batches. A request is a picture file (`POST /predict`), or
    has the form of TensorFlow Serving's REST API or of the Open Inference Protocol v2; `/docs` describes them. The
    server has neither authentication nor TLS: put a proxy in front of it if it must be reached from other machines.

    Args:
        model: A model as `predict` takes it: a run's folder, a .keras or .h5 file, a file or folder that `export_model`
            wrote, a registered name, a checkpoint, or a Keras model.
        host: The address to listen on: "127.0.0.1" accepts connections from this machine only, "0.0.0.0" from
            everywhere.
        port: The port, 0 to 65535; 0 takes a free one.
        name: The name of the model in addresses. None takes the name of its folder or file.
        max_batch: The maximum batch size, at least 1.
        max_wait: The time that an image waits for others to fill its batch, in seconds, in [0, 60).
        max_queue: The maximum number of images in progress, at least `max_batch`; further ones are answered with status
            503.
        max_upload: The maximum size of a request's body, in bytes, at least 1024.
        max_pixels: The maximum number of pixels of an image, 1 to 67,108,864.
        timeout: The maximum time for a request to arrive, in seconds, in (0, 3600].
        embedding: Whether to return embeddings instead of classes.
        classes: The class names in the order of the outputs, or a file with one name per line, for a model without
            class names.
        preprocessing: The pixel range that the model expects, as `preprocess_input` names it. None measures it.
        precision: The precision that a Keras model computes in, as for `predict`.
        trust: Whether to load a SavedModel with operations that `export_model` does not write.
        say: Called with one line once the model is warm: the address, the model, its runtime, and a command that calls
            it. None prints the line.
        note: Called with each assumption about the model, in a sentence. None ignores them.

    Returns:
        None, after SIGTERM, once all requests in progress are answered. Ctrl-C raises KeyboardInterrupt.

    Raises:
        ValueError: The model is missing or damaged, an argument is out of range, or the port is not available.

    Examples:
        >>> import signal  # to stop this server as soon as its model is warm
        >>> from inception_resnet_keras import serve
        >>> serve("runs/photos-1", port=0, max_batch=1, say=lambda line: signal.raise_signal(signal.SIGTERM))

        In practice, `serve("runs/photos-1")` prints its address and blocks, and clients send picture files, such as
        with `curl --data-binary @IMAGE http://127.0.0.1:8080/predict`.
    """
    from .service import Settings

    settings = Settings(max_batch, max_wait, max_queue, max_upload, max_pixels, timeout)
    options: dict[str, Any] = {"embedding": embedding, "classes": classes, "preprocessing": preprocessing}
    options |= {"precision": precision, "trust": trust, "note": note or (lambda text: None)}
    with _stopped_by_sigterm():
        ModelServer(model, settings, host=host, port=port, name=name, **options).run(say or print)


class ModelServer:
    """A listening server. The arguments are those of `serve`.

    As a context manager, it runs in a thread and is ready within the block.

    Attributes:
        service: The model and its service.
        url: The address, such as "http://127.0.0.1:8080".
    """

    def __init__(
        self,
        model: keras.Model | str | PathLike[str],
        settings: Settings,
        *,
        host: str = HOST,
        port: int = PORT,
        name: str | None = None,
        preprocessing: Convention | None = None,
        trust: bool = False,
        **options: Any,
    ) -> None:
        for module in ("starlette", "uvicorn", "python_multipart", "prometheus_client"):
            required(module, "serve")
        from .service import Service, default_name

        source = locate(model, preprocessing=preprocessing, trust=trust)
        check_precision(source, options.get("precision"))
        chosen = default_name(display_name(model)) if name is None else name
        self.service: Service = Service(source, chosen, settings, **options)
        self._socket = _listening(host, port)
        self.url = _url(host, self._socket)
        self._server = _make_server(self.service)
        self._thread: threading.Thread | None = None

    def run(self, say: Callable[[str], object] = print) -> None:
        """Serve in the main thread until a signal ends the server."""
        self.service.start()
        self._server.on_ready = lambda: say(self._line())
        try:
            self._server.run([self._socket])
        finally:
            self.service.close()
        if self.service.batcher.error is not None:
            raise self.service.batcher.error

    def __enter__(self) -> ModelServer:
        self.service.start()
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="server", daemon=True)
        self._thread.start()
        self.service.batcher.settled.wait()
        if self.service.batcher.error is not None:
            self.__exit__()
            raise self.service.batcher.error
        return self

    def __exit__(self, *error: object) -> None:
        assert self._thread is not None
        self._server.should_exit = True
        self._thread.join()
        self.service.close()

    def _line(self) -> str:
        served = self.service.model
        gives = "embeddings" if served.class_names is None else f"{served.outputs:,} classes"
        height, width = served.size
        call = f"curl --data-binary @IMAGE {self.url}/predict"
        about = f"{served.platform}, {height}×{width}, {gives}, batches of up to {self.service.settings.max_batch}"
        return printable(f"{self.url} serves {self.service.name} ({about}); {call}; see {self.url}/docs")


def _listening(host: str, port: int) -> socket.socket:
    """A listening socket; InputError if the address or the port is not available."""
    if not is_integer(port) or not 0 <= port <= 65535:
        raise refuse("port", port, "an integer from 0 to 65535; 0 takes a free port")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"host: got {host!r}; it takes an address of this machine, such as {HOST} ({error})") from None
    try:
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(f"port: cannot listen on {host}, port {port} ({why}); give another one, or 0") from None


def _url(host: str, listening: socket.socket) -> str:
    port = listening.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block instead of the process: uvicorn stops gracefully, and then raises it again."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can handle signals
        return

    def stop(number: int, frame: object) -> None:
        raise _StoppedError

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with suppress(_StoppedError):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def usable_connections(wanted: int) -> int:
    """The number of connections that this process can hold, up to `wanted`: each takes a file descriptor."""
    try:
        import resource
    except ImportError:  # Windows
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + SPARE_FILES:
        raised = wanted + SPARE_FILES if hard == resource.RLIM_INFINITY else min(hard, wanted + SPARE_FILES)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        return max(1, min(wanted, soft - SPARE_FILES))
    return wanted


def _make_server(service: Service) -> Any:
    import uvicorn

    from .connection import Connection, Server
    from .web import make_app

    most = usable_connections(service.settings.max_connections)
    config = uvicorn.Config(
        make_app(service),
        http=partial(Connection, most=most, patience=HEADER_SECONDS),  # type: ignore[arg-type] # it is called as a class
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=int(KEEP_ALIVE),
        timeout_graceful_shutdown=int(GRACE),
        backlog=BACKLOG,
        h11_max_incomplete_event_size=LARGEST_HEADER,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # clients learn their own mistakes from the answer
    return Server(config, service.batcher)
