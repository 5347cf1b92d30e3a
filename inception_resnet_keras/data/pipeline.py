"""The tf.data pipeline: from the pictures' bytes to augmented batches of the wanted size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..common.arguments import is_integer, positive_integer
from ..common.errors import InputError, refuse
from .augment import distorted, mixed, moves, refill_unreadable, shifted
from .draws import balanced_order, draws, inception_boxes, order, patches
from .images import JPEG, PILLOW, UnreadableImageError
from .labelled import Source
from .options import DataOptions
from .rand_augment import rand_augmented

NEEDED = ("index", "present", "kind", "window", "ratio")
SCALES = (2, 4, 8)  # a JPEG can be decoded at 1/2, 1/4 and 1/8 of its size
Rows = dict[str, Any]  # tensors by name


def dct_ratios(boxes: np.ndarray, size: tuple[int, int], margin: int) -> np.ndarray:
    """int32 (n,): the largest ratio for which the crop, decoded at 1/ratio, is still at least `margin` times `size`."""
    ratios = np.ones(len(boxes), np.int32)
    for ratio in SCALES:
        ratios[(boxes[:, 2:] // ratio >= margin * np.array(size)).all(axis=1)] = ratio
    return ratios


class TrainingReader:
    """Reads and resizes crops for training: uint8 (n, height, width, 3), and bool (n,), whether each could be read.

    Rows hold index (int64), present (bool), kind (int32), window (int32: top, left, height, width, at full size) and
    ratio (int32). A damaged file does not raise an error: it is listed in `source.corrupt`, and its picture consists
    of zeros, as that of an absent row does.

    Args:
        accurate: Whether to resize with antialiasing and smooth chroma, as `read_image` does; otherwise bilinear
            between the four nearest pixels, as the released training code did.
    """

    def __init__(self, source: Source, size: tuple[int, int], *, accurate: bool) -> None:
        self.source, self.size, self.accurate = source, size, accurate
        self._absent = (tf.zeros([*size, 3], tf.uint8), tf.constant(False))

    def __call__(self, rows: Rows, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Decode the whole chunk of `count` rows first, and retry one by one only if something fails.

        Guarding each picture separately costs 17 % more time.
        """
        each = tf.data.Dataset.from_tensor_slices({name: rows[name] for name in NEEDED})
        none = tf.data.Dataset.from_tensors((tf.zeros([0, *self.size, 3], tf.uint8), tf.zeros([0], tf.bool)))
        tried = each.map(self._hasty).ignore_errors(log_warning=False).batch(count).concatenate(none).take(1)
        images, readable = tried.get_single_element()
        return tf.cond(
            tf.size(readable) == count,
            lambda: (images, readable),
            lambda: each.map(self._careful).batch(count).get_single_element(),
        )

    def _hasty(self, row: Rows) -> tuple[tf.Tensor, tf.Tensor]:
        """Read one row; fails on a damaged file. In a graph, only a dataset with `ignore_errors` can catch this."""
        found = {0: lambda: self._absent, 1: lambda: self._by_pillow(row), 2: lambda: self._by_tensorflow(row)}
        way = tf.where(row["present"], tf.where(row["kind"] == PILLOW, 1, 2), 0)
        return tf.switch_case(way, found)

    def _careful(self, row: Rows) -> tuple[tf.Tensor, tf.Tensor]:
        one = tf.data.Dataset.from_tensors(row).map(self._hasty).ignore_errors(log_warning=False)
        image, readable = one.concatenate(tf.data.Dataset.from_tensors(self._absent)).take(1).get_single_element()
        return tf.cond(readable | ~row["present"], lambda: (image, readable), lambda: self._by_pillow(row))

    def _by_tensorflow(self, row: Rows) -> tuple[tf.Tensor, tf.Tensor]:
        content = self.source.contents.graph(row["index"])
        image = tf.cond(row["kind"] == JPEG, lambda: self._jpeg(content, row), lambda: self._plain(content, row))
        return self._resized(image), tf.constant(True)

    def _jpeg(self, content: tf.Tensor, row: Rows) -> tf.Tensor:
        method = "INTEGER_ACCURATE" if self.accurate else "INTEGER_FAST"

        def at(scale: int) -> tf.Tensor:
            return tf.io.decode_and_crop_jpeg(
                content, row["window"] // scale, 3, ratio=scale, fancy_upscaling=self.accurate, dct_method=method
            )

        # The op takes its ratio as a constant, so there is a branch for each; its index is the number of SCALES that
        # the row's ratio reaches.
        branches = [lambda scale=scale: at(scale) for scale in (1, *SCALES)]
        return tf.switch_case(tf.reduce_sum(tf.cast(row["ratio"] >= SCALES, tf.int32)), branches)

    def _plain(self, content: tf.Tensor, row: Rows) -> tf.Tensor:
        image = tf.io.decode_image(content, 3, expand_animations=False)
        top, left, height, width = tf.unstack(row["window"])
        return image[top : top + height, left : left + width]

    def _by_pillow(self, row: Rows) -> tuple[tf.Tensor, tf.Tensor]:
        image, readable = tf.numpy_function(
            self._pillow, [row["index"], row["window"]], [tf.uint8, tf.bool], stateful=False
        )
        return self._resized(image), tf.ensure_shape(readable, [])

    def _pillow(self, index: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, np.bool_]:
        top, left, height, width = window
        nothing = np.zeros((1, 1, 3), np.uint8)
        try:
            image = self.source.read(int(index))[top : top + height, left : left + width]
        except UnreadableImageError:
            return nothing, np.False_
        if image.shape[:2] != (height, width):
            self.source.corrupt.add(self.source.names[int(index)], "is smaller than when it was opened")
            return nothing, np.False_
        return np.ascontiguousarray(image), np.True_

    def _resized(self, image: tf.Tensor) -> tf.Tensor:
        image = tf.ensure_shape(image, [None, None, 3])
        resized = tf.image.resize(image, self.size, antialias=self.accurate)
        return tf.ensure_shape(tf.cast(resized + 0.5, tf.uint8), [*self.size, 3])


class HeldOutReader:
    """Reads pictures for evaluation, bit by bit like `read_image` and so like `predict`.

    Returns uint8 (n, height, width, 3), and bool (n,), whether each could be read.
    """

    def __init__(self, source: Source, size: tuple[int, int], crop: float) -> None:
        self.source, self.size, self.crop = source, size, crop

    def __call__(self, rows: Rows, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        images, readable = tf.numpy_function(
            self._read, [rows["index"], rows["present"]], [tf.uint8, tf.bool], stateful=False
        )
        return tf.ensure_shape(images, [count, *self.size, 3]), tf.ensure_shape(readable, [count])

    def _read(self, indices: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images, readable = np.zeros((len(indices), *self.size, 3), np.uint8), np.zeros(len(indices), bool)
        for place in np.flatnonzero(present):
            try:
                images[place] = self.source.read(int(indices[place]), self.size, self.crop)
                readable[place] = True
            except UnreadableImageError:
                continue
        return images, readable


KEPT = ("index", "label", "weight", "present", "patch", "own", "colour", "flip")
CHUNK = 8  # pictures decoded by one call, which are all decoded again if one of them is damaged


def batches(
    source: Source,
    options: DataOptions,
    *,
    size: tuple[int, int],
    batch_size: int,
    training: bool,
    seed: int,
    epoch: int = 0,
    start: int = 0,
    epochs: int = 1,
    shard: tuple[int, int] = (0, 1),
    drop_remainder: bool = False,
    numbered: bool = False,
    sampler: str = "none",
) -> tf.data.Dataset:
    """Build the dataset of one or several epochs, from batch number `start` of the first epoch on.

    Batch k of an epoch is bit by bit the same wherever iteration started: its pictures and their random variations are
    determined by seed, epoch and position in the epoch.

    Args:
        source: The pictures, from `open_source`.
        options: How pictures are read and augmented.
        size: (height, width) of the resulting pictures.
        batch_size: Number of pictures per batch, summed over all workers.
        training: Whether to shuffle the pictures and augment them by `options`. Otherwise they come in the source's
            order, with the central crop, bit by bit as from `read_image`.
        seed: Seed of the order and of the augmentation, an integer of at least 0.
        epoch: Number of the first epoch, from 0.
        start: Number of batches of the first epoch to skip, as after a resume; they are not read.
        epochs: Number of epochs that follow one another without a pause. (Building a pipeline may take seconds.)
        shard: (number, count) of the worker, which gets a contiguous part of every batch.
        drop_remainder: Leave out the last batch of an epoch if it is not full. Shapes in training are then static.
        numbered: Also return each picture's index in the source, int64 (pictures,), as the last element.
        sampler: In training, "none" uses every picture once per epoch; "balanced" gives each class the same share of
            an epoch of the same length (`draws.balanced_order`).

    Returns:
        A dataset of known cardinality with elements (images, labels), (images, labels, weights), or one of these with
        the pictures' indices. For a worker that gets no picture of a short last batch, an epoch is one batch shorter.

        - images: float32 (pictures, height, width, 3), 0-255; with channels first if that is Keras's image data format.
        - labels: int64 (pictures,), or float32 (pictures, classes) with MixUp or CutMix, or several labels per picture.
        - weights, in training on a source with weights: float32 (pictures,). With MixUp or CutMix float32 (pictures,
          classes): each label share times the weight of its picture; with several labels per picture, one more column
          holds the mixed weight itself.

        A picture that turns out to be corrupt is listed in `source.corrupt`. In training, another picture of the batch
        replaces it; otherwise it is left out. If there are more corrupt pictures than allowed, iteration raises a
        TensorFlow error, which `source.corrupt.raising_input_errors()` turns into an InputError.

    Raises:
        InputError: An argument is out of range, or does not fit the source.
    """
    number, count = checked_shard(shard, batch_size, training and options.mixes)
    for argument, value in (("seed", seed), ("epoch", epoch), ("start", start)):
        if not is_integer(value) or value < 0:
            raise refuse(argument, value, "an integer of at least 0")
    positive_integer("epochs", epochs)
    size = (positive_integer("size", size[0]), positive_integer("size", size[1]))
    total = len(source) // batch_size if drop_remainder else math.ceil(len(source) / batch_size)
    if total == 0:
        raise InputError(
            f"batch_size: got {batch_size}, but the source has only {len(source)} pictures, not enough for a full batch"
        )
    if start > total:
        raise refuse("start", start, f"at most {total}, the batches of an epoch")
    if options.cache == "memory":
        source = source.in_memory

    plan = BatchPlan(source, options, size, batch_size, training, seed, epoch, total, (number, count), sampler)
    settings = tf.data.Options()
    settings.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF  # see `shard`
    first, last = min(start, plan.own), plan.own * epochs
    python = tf.autograph.experimental.do_not_convert  # nothing here needs AutoGraph, and converting takes seconds
    # Numbers of batches become rows (which pictures, which variations), chunks of rows become pictures, and chunks are
    # joined into batches: decoding runs in parallel over chunks, not over whole batches.
    return (
        tf.data.Dataset.range(first, last)
        .map(python(plan.in_graph))
        .unbatch()
        .map(python(_chunk(plan)), num_parallel_calls=options.parallel_calls or tf.data.AUTOTUNE)
        .batch(plan.chunks)
        .map(
            python(_batch(plan, static=drop_remainder and training, numbered=numbered)),
            num_parallel_calls=options.parallel_calls or tf.data.AUTOTUNE,
        )
        .apply(tf.data.experimental.assert_cardinality(last - first))
        .prefetch(tf.data.AUTOTUNE)
        .with_options(settings)
    )


@dataclass(frozen=True)
class BatchPlan:
    """The pictures of a worker's batches and their variations, planned before any picture is read.

    Attributes:
        first_epoch: The epoch of batch 0.
        total: Number of batches per epoch, before they are shared by the workers.
    """

    source: Source
    options: DataOptions
    size: tuple[int, int]
    batch_size: int
    training: bool
    seed: int
    first_epoch: int
    total: int
    shard: tuple[int, int]
    sampler: str = "none"

    @property
    def distorts(self) -> bool:
        return self.training and self.options.augmentation == "inception"

    @property
    def shifts(self) -> bool:
        return self.training and self.options.augmentation == "shift"

    @property
    def mixes(self) -> bool:
        return self.training and self.options.mixes

    @property
    def operations(self) -> int:
        return self.options.rand_augment if self.training else 0

    @property
    def part(self) -> int:
        """This worker's number of pictures in a full batch."""
        return self.batch_size // self.shard[1]

    @property
    def chunks(self) -> int:
        return -(-self.part // CHUNK)

    @property
    def chunk(self) -> int:
        """Number of pictures that are decoded together. Chunks are equal; the last is padded with absent rows."""
        return -(-self.part // self.chunks)

    @cached_property
    def own(self) -> int:
        """Number of an epoch's batches in which this worker has pictures: all, or all but a short last one."""
        first, last = self.positions(self.total - 1)
        return self.total - (first == last)

    @cached_property
    def order(self) -> Callable[[int], np.ndarray]:
        """A function from the number of an epoch to the index of the picture at each of its positions."""
        if not self.training:
            return lambda _: np.arange(len(self.source))
        if self.sampler == "balanced":  # cached, because every batch of the epoch needs it
            return lru_cache(maxsize=4)(partial(balanced_order, self.source.labels, self.seed))
        return partial(order, len(self.source), self.seed)

    def positions(self, batch: int) -> tuple[int, int]:
        """This worker's part of a batch: the first position, and the position after the last.

        A short batch is shared as evenly as possible; pairs of pictures that are mixed stay with one worker.
        """
        first = batch * self.batch_size
        length = min(self.batch_size, len(self.source) - first)
        unit = 2 if self.mixes else 1
        number, count = self.shard
        units = -(-length // unit)
        begin, end = (min(length, unit * (part * units // count)) for part in (number, number + 1))
        return first + begin, first + end

    def batch(self, number: int) -> Rows:
        """One row for each picture of this worker's batch `number`, which counts on over epochs.

        Only the columns that the options need are present.
        """
        epochs, batch = divmod(int(number), max(self.own, 1))
        epoch = self.first_epoch + epochs
        first, last = self.positions(batch)
        chosen = self.order(epoch)[first:last]
        rows = {
            "index": chosen.astype(np.int64),
            "label": self.source.labels[chosen].astype(np.int64),
            "present": np.ones(len(chosen), bool),
        }
        if self.training and self.source.weights is not None:
            rows["weight"] = self.source.weights[chosen].astype(np.float32)
        return rows | self._variations(chosen, epoch, first, last) if self.training else rows

    def _variations(self, chosen: np.ndarray, epoch: int, first: int, last: int) -> Rows:
        sizes = self.source.sizes[chosen]
        drawn = draws(self.options, self.seed, epoch, first, last)
        boxes = np.column_stack([np.zeros_like(sizes), sizes])
        if self.distorts:
            boxes = inception_boxes(sizes, drawn.crop, self.options.area, self.options.aspect)
        rows = {
            "kind": self.source.kinds[chosen].astype(np.int32),
            "window": boxes.astype(np.int32),
            "ratio": dct_ratios(boxes, self.size, 1 if self.distorts else 2),
        }
        if self.distorts:
            rows["flip"] = drawn.flip
            if not self.operations:  # RandAugment's operations replace the colour changes
                rows["colour"] = drawn.colour
        if self.shifts:
            rows["move"] = moves(drawn.move, self.options.shift, self.size)
        if self.operations:
            rows |= {"operations": drawn.operations, "strengths": drawn.strengths}
        if self.mixes:
            rows["patch"], rows["own"] = patches(drawn.mix, self.size)
        return rows

    def in_graph(self, number: tf.Tensor) -> Rows:
        """A batch's rows in the graph, divided into chunks and padded with absent rows of zeros."""

        def chunked(batch: np.ndarray) -> list[np.ndarray]:
            rows = self.batch(int(batch)).values()
            return [
                np.pad(row, [(0, self.chunks * self.chunk - len(row)), *[(0, 0)] * (row.ndim - 1)]).reshape(
                    self.chunks, self.chunk, *row.shape[1:]
                )
                for row in rows
            ]

        sample = self.batch(0)
        dtypes = [values.dtype for values in sample.values()]
        rows = tf.numpy_function(chunked, [number], dtypes, stateful=False)
        return {
            name: tf.ensure_shape(row, [self.chunks, self.chunk, *sample[name].shape[1:]])
            for name, row in zip(sample, rows, strict=True)
        }


def _chunk(plan: BatchPlan) -> Callable[[Rows], Rows]:
    """A function from a chunk of rows to its pictures, with the variations that apply to each picture alone."""
    read = (
        TrainingReader(plan.source, plan.size, accurate=not plan.distorts)
        if plan.training
        else HeldOutReader(plan.source, plan.size, plan.options.central_crop)
    )

    def chunk(rows: Rows) -> Rows:
        images, readable = read(rows, plan.chunk)
        if "flip" in rows and "colour" not in rows:
            images = tf.where(rows["flip"][:, None, None, None], images[:, :, ::-1], images)
        if plan.shifts:
            images = shifted(images, rows["move"])
        if plan.operations:
            images = rand_augmented(tf.cast(images, tf.float32), rows["operations"], rows["strengths"])
        kept = {name: rows[name] for name in KEPT if name in rows}
        return {"image": images, "readable": readable} | kept

    return chunk


def _batch(plan: BatchPlan, *, static: bool, numbered: bool) -> Callable[[Rows], tuple[tf.Tensor, ...]]:
    """A function from the chunks of a batch to the model's input.

    Colours are changed here, not in `_chunk`: until then pixels are bytes, which are cheap to copy.
    """

    def batch(chunks: Rows) -> tuple[tf.Tensor, ...]:
        rows = {name: tf.reshape(row, [-1, *row.shape[2:]]) for name, row in chunks.items()}
        if "colour" in rows:
            rows["image"] = distorted(
                rows["image"], rows.pop("flip"), rows.pop("colour"), slow=plan.options.slow_colour
            )
        count = tf.reduce_sum(tf.cast(rows.pop("present"), tf.int32))  # the absent rows are at the end
        rows = {name: row[:count] for name, row in rows.items()}
        readable = rows.pop("readable")
        rows = tf.cond(
            tf.reduce_all(readable), lambda: rows, lambda: refill_unreadable(rows, readable, refill=plan.training)
        )
        images, labels = tf.cast(rows["image"], tf.float32), rows["label"]
        if plan.source.multi_label:
            labels = tf.cast(labels, tf.float32)
        if static:
            images = tf.ensure_shape(images, [plan.part, *plan.size, 3])
        weights = [rows["weight"]] if "weight" in rows else []
        if plan.mixes:
            if not plan.source.multi_label:
                labels = tf.one_hot(labels, len(plan.source.class_names))
            # Labels, and labels times their picture's weight, are mixed side by side. Several labels of a picture do
            # not sum to 1, so that the weight itself is mixed too.
            columns = [labels, *(labels * weight[:, None] for weight in weights)]
            columns += [weight[:, None] for weight in weights if plan.source.multi_label]
            images, both = mixed(images, tf.concat(columns, axis=1), rows["own"], rows["patch"])
            classes = len(plan.source.class_names)
            labels, weights = both[:, :classes], [both[:, classes:]] if weights else []
        if keras.config.image_data_format() == "channels_first":
            images = tf.transpose(images, [0, 3, 1, 2])
        return (images, labels, *weights, *([rows["index"]] if numbered else []))

    return batch


def checked_shard(shard: tuple[int, int], batch_size: int, pairs: bool) -> tuple[int, int]:
    """Check a worker's (number, count). Raises InputError if so many workers cannot share a batch equally.

    Args:
        pairs: Whether pictures are mixed in pairs, which must stay with one worker.
    """
    takes = "(number, count), number from 0, below count"
    if not isinstance(shard, tuple) or len(shard) != 2 or not all(map(is_integer, shard)):
        raise refuse("shard", shard, takes)
    number, count = shard
    if not 0 <= number < count:
        raise refuse("shard", shard, takes)
    positive_integer("batch_size", batch_size)
    if batch_size % (count * (2 if pairs and count > 1 else 1)):
        each = ", with an even number of pictures for each, because they are mixed in pairs" if pairs else ""
        raise refuse("batch_size", batch_size, f"a multiple of the {count} workers{each}")
    return number, count
