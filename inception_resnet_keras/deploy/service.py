"""A model as a service, independent of HTTP: its settings, the path from an image to its outputs, and metrics."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..common.arguments import number_between, positive_integer
from ..common.devices import usable_cores
from ..common.errors import InputError, reason_of, refuse
from ..common.packages import configured_engine, required
from ..data.crops import Enough, look
from ..data.images import MAX_PIXELS, OversizeImageError, UnreadableImageError, decode, header
from ..models.open import ModelSource, OpenedModel
from ..models.precision import Precision, speed_up
from ..models.predict import Predictions, class_names
from ..models.runtimes import KerasRuntime, LiteRtRuntime, find_runtime
from ..weights.labels import read_class_names
from .batching import Batcher, NotReadyError, QueueFullError
from .protocols import Picture, RequestError, Served

LOG = logging.getLogger("inception_resnet_keras.serve")
MIB = 1024**2
MOST_TIMEOUT = 3600.0  # seconds
NAME = Path("the picture")  # the name of bytes without a file in errors
HELD = 16  # the bodies of all requests together may take this many times the largest upload
# Upper bounds of the histograms' buckets.
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_PICTURES = (1, 2, 4, 8, 16, 32, 64, 128)
BUSY, WARMING = {"Retry-After": "1"}, {"Retry-After": "5"}  # seconds


@dataclass(frozen=True)
class Settings:
    """The limits of a service, which are checked on creation.

    Args:
        max_batch: The maximum batch size, at least 1.
        max_wait: The time that an image waits for others to fill its batch, in seconds, in [0, 60).
        max_queue: The maximum number of images in progress, at least `max_batch`; further ones are answered with status
            503.
        max_upload: The maximum size of a request's body, in bytes, at least 1024.
        max_pixels: The maximum number of pixels of an image, 1 to 67,108,864.
        timeout: The maximum time for a request to arrive, in seconds, in (0, 3600].
        max_connections: The maximum number of open connections; further ones are answered with status 503.
    """

    max_batch: int = 8
    max_wait: float = 0.005
    max_queue: int = 128
    max_upload: int = 16 * MIB
    max_pixels: int = MAX_PIXELS
    timeout: float = 30.0
    max_connections: int = 1024

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_queue", "max_connections"):
            positive_integer(name, getattr(self, name))
        number_between("max_wait", self.max_wait, 0, 60, "seconds in [0, 60)")
        number_between("timeout", self.timeout, 0.001, MOST_TIMEOUT + 0.001, f"seconds, at most {MOST_TIMEOUT:g}")
        if positive_integer("max_upload", self.max_upload) < 1024:
            raise refuse("max_upload", self.max_upload, "a number of bytes, at least 1024")
        if positive_integer("max_pixels", self.max_pixels) > MAX_PIXELS:
            raise refuse("max_pixels", self.max_pixels, f"a number of pixels, at most {MAX_PIXELS:,}")
        if self.max_queue < self.max_batch:
            raise refuse("max_queue", self.max_queue, f"at least max_batch, which is {self.max_batch}")


def default_name(model: str) -> str:
    """The name of a model in URLs: that of its folder or file without suffix, with other characters replaced by "-"."""
    return re.sub(r"[^\w.-]+", "-", Path(model.rpartition("=")[2]).stem, flags=re.ASCII).strip("-.") or "model"


def check_name(name: str) -> str:
    """Return a name that can be used in URLs, or raise InputError."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", name):
        raise refuse("name", name, "up to 128 letters, digits, '-', '_' and '.', because it is part of URLs")
    return name


class Service:
    """A model in its own thread, with the functions that compute its outputs for the images of requests.

    Args:
        source: The model, which is not opened yet.
        name: Its name in URLs.
        settings: The limits.
        embedding: Whether to return embeddings instead of classes.
        classes, precision: As for `predict`.
        note: Called with each assumption about the model, in a sentence, from the model's thread.

    Attributes:
        served: The description of the model; None until it is warm.
        held: The number of bytes of requests' bodies in memory.
        metrics: Counters and histograms, by `prometheus_client`.
    """

    def __init__(
        self,
        source: ModelSource,
        name: str,
        settings: Settings,
        *,
        embedding: bool = False,
        classes: Any = None,
        precision: Precision | None = None,
        note: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.source, self.name, self.settings = source, check_name(name), settings
        self._embedding, self._classes, self._precision, self._note = embedding, classes, precision, note
        self.served: Served | None = None
        self.held = 0
        runtime = find_runtime(source.name)[0] if source.exported else KerasRuntime
        self.platform = f"keras_{configured_engine()}" if runtime is KerasRuntime else runtime.kind
        self.metrics = Metrics(self)
        # OpenVINO, ONNX Runtime and TensorFlow's graphs take any batch size. Keras compiles a graph for each size, and
        # LiteRT allocates its tensors again when the size changes.
        few = runtime in (KerasRuntime, LiteRtRuntime)
        self.batcher = Batcher(
            self._open,
            max_batch=settings.max_batch,
            max_wait=settings.max_wait,
            places=settings.max_queue,
            lengths=doubling(settings.max_batch) if few else None,
            observe=self.metrics.observe_batch,
        )
        self.workers = ThreadPoolExecutor(usable_cores(), "decode")

    def start(self) -> None:
        """Start to open the model, and return at once."""
        Image.preinit()  # otherwise, the first image loads all forty formats of Pillow
        self.batcher.start()

    def close(self) -> None:
        """Compute the waiting images, and end the threads."""
        self.batcher.close()
        self.workers.shutdown(cancel_futures=True)

    @property
    def ready(self) -> bool:
        return self.batcher.ready

    def _open(self) -> OpenedModel:
        """Open the model, in the batcher's thread."""
        opened = self.source.open(embedding=self._embedding)
        names: list[str] | None = None
        if not self._embedding:
            given = self._classes
            names = class_names(opened) if given is None else read_class_names(given, opened.outputs)
            opened = speed_up(opened, self._precision, self.settings.max_batch)
        for text in opened.notes:
            self._note(f"{opened.name}: {text}")
        self.served = Served(self.name, self.platform, opened.view.size, names, opened.outputs)
        return opened

    @property
    def model(self) -> Served:
        """The description of the warm model; RequestError with status 503 before it is warm."""
        if not self.ready or self.served is None:
            raise RequestError(503, "the model is not ready: it is being opened, or the server is stopping", WARMING)
        return self.served

    def check_places(self) -> None:
        """Raise RequestError with status 503 if no image would be accepted, before a body is read."""
        if self.batcher.ready and self.batcher.in_progress >= self.settings.max_queue:
            raise _busy(f"{self.batcher.in_progress} pictures are in progress")

    async def outputs(self, pictures: Sequence[Picture]) -> list[np.ndarray | UnreadableImageError]:
        """Compute the outputs of the model for images.

        If the caller is cancelled, waiting images are not computed.

        Args:
            pictures: The bytes of picture files, which are decoded as by `predict`, or arrays in the model's size.

        Returns:
            For each image its outputs, float32 (outputs,), or the error if it cannot be read.

        Raises:
            RequestError: With status 413 for more images than the queue has places, 503 if too few places are free,
                and 500 if the model fails.
        """
        if len(pictures) > self.settings.max_queue:
            most = self.settings.max_queue
            raise RequestError(413, f"the request has {len(pictures)} pictures; it may have at most {most}")
        try:
            with self.batcher.reserve(len(pictures)):
                if len(pictures) == 1:
                    found = [await self._output(pictures[0])]
                else:
                    async with asyncio.TaskGroup() as group:
                        tasks = [group.create_task(self._output(picture)) for picture in pictures]
                    found = [task.result() for task in tasks]
        except QueueFullError as error:
            raise _busy(str(error)) from None
        except NotReadyError:
            raise RequestError(503, "the server is stopping", WARMING) from None
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        unreadable = sum(isinstance(each, UnreadableImageError) for each in found)
        self.metrics.count_pictures(len(found) - unreadable, unreadable)
        return found

    async def _output(self, picture: Picture) -> np.ndarray | UnreadableImageError:
        if isinstance(picture, bytes):
            loop = asyncio.get_running_loop()
            try:
                picture = await loop.run_in_executor(self.workers, self._pixels, picture)
            except UnreadableImageError as error:
                return error
            except InputError as error:  # a package for this kind of file is not installed
                return UnreadableImageError(NAME, str(error))
        try:
            return await asyncio.wrap_future(self.batcher.submit(picture))
        except NotReadyError:
            raise RequestError(503, "the server is stopping", WARMING) from None
        except Exception as error:
            if not isinstance(error, InputError):
                LOG.exception("the model failed")
            reason = str(error) if isinstance(error, InputError) else reason_of(error)
            raise RequestError(500, reason.replace(self.source.name, self.name)) from None  # hide paths of this machine

    def _pixels(self, content: bytes) -> np.ndarray:
        """Decode a file's bytes as `predict` does, to uint8 (height, width, 3)."""
        assert self.batcher.model is not None
        view = self.batcher.model.view
        height, width, _ = header(NAME, content)
        if height * width > self.settings.max_pixels:
            most = f"at most {self.settings.max_pixels:,} pixels are accepted; make it smaller first"
            raise OversizeImageError(NAME, f"is {width}×{height}: {most}")

        def decoded(enough: Enough) -> Image.Image:
            return decode(NAME, enough, content=content, value_range=view.value_range)

        return look(decoded, [view])[view][0]

    def predictions(
        self, names: Sequence[str], outputs: Sequence[np.ndarray | UnreadableImageError], top: int | None
    ) -> list[dict[str, Any]]:
        """The same as `predict --json` prints for these images; for embeddings, the vector instead of classes."""
        served, model = self.model, self.batcher.model
        assert model is not None
        read = [number for number, each in enumerate(outputs) if isinstance(each, np.ndarray)]
        reasons = {number: each.reason for number, each in enumerate(outputs) if isinstance(each, UnreadableImageError)}
        if served.class_names is None:
            return [
                {"path": name, "embedding": each.tolist(), "error": None}
                if isinstance(each, np.ndarray)
                else {"path": name, "embedding": None, "error": each.reason}
                for name, each in zip(names, outputs, strict=True)
            ]
        found = Predictions(
            files=list(names),
            paths=[names[number] for number in read],
            class_names=list(served.class_names),
            models=[self.name],
            model_probabilities=[np.array([outputs[number] for number in read]).reshape(len(read), served.outputs)],
            unreadable=[(names[number], reason) for number, reason in reasons.items()],
            passed_over=[],
            crops=1,
            top=None if model.thresholds and top is None else top or served.top,
            read=np.array(read, np.int64),
            thresholds=model.thresholds,
        )
        return [asdict(prediction) for prediction in found]


def _busy(what: str) -> RequestError:
    return RequestError(503, f"the queue is full: {what}; try again later", BUSY)


def doubling(most: int) -> list[int]:
    """The powers of 2 below `most`, and `most` itself.

    >>> doubling(12)
    [1, 2, 4, 8, 12]
    """
    powers = [1 << power for power in range(most.bit_length()) if 1 << power < most]
    return [*powers, most]


class Metrics:
    """The metrics for Prometheus. Each service has its own registry."""

    def __init__(self, service: Service) -> None:
        prometheus = required("prometheus_client", "serve")
        self.registry = prometheus.CollectorRegistry()
        for collector in (prometheus.ProcessCollector, prometheus.PlatformCollector):
            collector(registry=self.registry)
        own = {"namespace": "inception", "subsystem": "serve", "registry": self.registry}
        self._requests = prometheus.Counter("requests", "Answered requests.", ["route", "method", "status"], **own)
        self._seconds = prometheus.Histogram(
            "request_seconds",
            "Time from a request's header to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            **own,
        )
        self._pictures = prometheus.Counter("pictures", "Pictures of answered requests.", ["result"], **own)
        self._batches = prometheus.Histogram("batch_pictures", "Pictures per batch.", buckets=_PICTURES, **own)
        self._filled = prometheus.Counter("filled_up", "Black pictures that padded batches.", **own)
        self._model = prometheus.Histogram("batch_seconds", "Time of a model run.", buckets=_SECONDS, **own)
        prometheus.Gauge(
            "pictures_in_progress", "Pictures being decoded, waiting or being computed.", **own
        ).set_function(lambda: service.batcher.in_progress)
        prometheus.Gauge("ready", "1 if pictures are accepted, otherwise 0.", **own).set_function(lambda: service.ready)
        prometheus.Gauge("upload_bytes", "Bytes of requests' bodies in memory.", **own).set_function(
            lambda: service.held
        )
        prometheus.Info("model", "The served model.", **own).info({"name": service.name, "platform": service.platform})

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_pictures(self, read: int, unreadable: int) -> None:
        self._pictures.labels("read").inc(read)
        self._pictures.labels("unreadable").inc(unreadable)

    def observe_batch(self, pictures: int, length: int, seconds: float) -> None:
        self._batches.observe(pictures)
        self._filled.inc(length - pictures)
        self._model.observe(seconds)

    def page(self, accept: str) -> tuple[bytes, str]:
        """All metrics as text, in the format that the reader accepts, and its content type."""
        encode, content_type = required("prometheus_client.exposition", "serve").choose_encoder(accept)
        return encode(self.registry), content_type
