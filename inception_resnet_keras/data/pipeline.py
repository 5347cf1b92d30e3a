"""One epoch's batches of a source, on tf.data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..arguments import is_integer, positive_integer
from ..errors import InputError, refuse
from .colour import distorted
from .decode import dct_ratios, decoder
from .draws import central_boxes, draws, inception_boxes, order, patches
from .mixing import mended, mixed, moves, shifted
from .options import DataOptions
from .rand_augment import rand_augmented
from .sources import Source


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
    shard: tuple[int, int] = (0, 1),
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """The batches of one epoch, from batch number `start` on.

    With `options.deterministic`, batch k is the same to the bit whatever `start` is: its pictures and
    all that is random about them follow from seed, epoch and position in the epoch.

    Args:
        source: What `open_source` gives.
        options: How pictures are read and varied.
        size: (height, width) of the pictures given out.
        batch_size: Of the whole batch, all workers together.
        training: Shuffled and varied as `options` says; else in the source's order, the central crop.
        seed: An integer of at least 0; with `epoch` it gives order and variations.
        epoch: Number of the epoch, from 0.
        start: Batches to leave out, as after a resume; none of them is read.
        shard: (number, count) of the worker: it gets its part, one stretch, of every batch.
        drop_remainder: Leave out a last batch that is not full; in training, shapes are then static.

    Returns:
        A dataset, of known cardinality (one fewer for a worker that a short last batch leaves nothing),
        of (images, labels): float32 (pictures, height, width, 3), in
        Keras's image data format, 0-255; int64 (pictures,), or float32 (pictures, classes) where
        `options` mixes pictures. A picture found corrupt on the way is listed in `source.corrupt`; in
        training another of its batch takes its place, else it is left out. Where these pass their
        bound, iteration raises a TensorFlow error: iterate within `source.corrupt.told()`, and it is
        the InputError.

    Raises:
        InputError: An argument is out of range, or does not fit the source.
    """
    number, count = _checked_shard(shard, batch_size, training and options.mixes)
    for argument, value in (("seed", seed), ("epoch", epoch), ("start", start)):
        if not is_integer(value) or value < 0:
            raise refuse(argument, value, "an integer of at least 0")
    size = (positive_integer("size", size[0]), positive_integer("size", size[1]))
    total = len(source) // batch_size if drop_remainder else math.ceil(len(source) / batch_size)
    if total == 0:
        raise InputError(f"batch_size: got {batch_size}, the source has {len(source)} pictures: no full batch")
    if start > total:
        raise refuse("start", start, f"at most {total}, the batches of an epoch")
    if options.cache == "memory":
        source = source.in_memory

    plan = Plan(source, options, size, batch_size, training, seed, epoch, (number, count))
    settings = tf.data.Options()
    settings.deterministic = options.deterministic
    settings.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF  # `shard` did it
    return (
        tf.data.Dataset.range(start, total)
        .map(plan.in_graph)
        .unbatch()
        .map(_picture(plan), num_parallel_calls=options.parallel_calls or tf.data.AUTOTUNE)
        .batch(batch_size // count)
        .map(_batch(plan, static=drop_remainder and training))
        .apply(tf.data.experimental.assert_cardinality(plan.batches(start, total)))
        .prefetch(tf.data.AUTOTUNE)
        .with_options(settings)
    )


@dataclass(frozen=True)
class Plan:
    """Which pictures a worker's batches hold, and what is to be done with each, before any is read."""

    source: Source
    options: DataOptions
    size: tuple[int, int]
    batch_size: int
    training: bool
    seed: int
    epoch: int
    shard: tuple[int, int]

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

    @cached_property
    def order(self) -> np.ndarray:
        count = len(self.source)
        return order(count, self.seed, self.epoch) if self.training else np.arange(count)

    def positions(self, batch: int) -> tuple[int, int]:
        """This worker's part of a batch: the first position, and the one after the last.

        A short batch is shared out as evenly as it goes, pairs that are mixed kept together.
        """
        first = batch * self.batch_size
        length = min(self.batch_size, len(self.source) - first)
        unit = 2 if self.mixes else 1
        number, count = self.shard
        units = -(-length // unit)
        begin, end = (min(length, unit * (part * units // count)) for part in (number, number + 1))
        return first + begin, first + end

    def batches(self, start: int, total: int) -> int:
        """How many of the batches from `start` on, before `total`, this worker has a part of."""
        if start == total:
            return 0
        first, last = self.positions(total - 1)
        return total - start - (first == last)

    def batch(self, number: int) -> dict[str, np.ndarray]:
        """A row for each picture of this worker's part of a batch; what is not asked for is not there."""
        first, last = self.positions(int(number))
        chosen = self.order[first:last]
        sizes = self.source.sizes[chosen]
        drawn = draws(self.options, self.seed, self.epoch, first, last)
        if self.distorts:
            boxes = inception_boxes(sizes, drawn.crop, self.options.area, self.options.aspect)
        else:
            boxes = central_boxes(sizes, 1.0 if self.training else self.options.central_crop)
        rows = {
            "index": chosen.astype(np.int64),
            "label": self.source.labels[chosen].astype(np.int64),
            "kind": self.source.kinds[chosen].astype(np.int32),
            "window": boxes,
            "ratio": dct_ratios(boxes, self.size, 1 if self.distorts else 2),
        }
        if self.distorts:
            rows |= {"flip": drawn.flip, "colour": drawn.colour}
        if self.shifts:
            rows["move"] = moves(drawn.move, self.options.shift, self.size)
        if self.operations:
            rows |= {"operations": drawn.operations, "strengths": drawn.strengths}
        if self.mixes:
            rows["patch"], rows["own"] = patches(drawn.mix, self.size)
        return rows

    def in_graph(self, number: tf.Tensor) -> dict[str, tf.Tensor]:
        sample = self.batch(0)
        rows = tf.numpy_function(
            lambda batch: list(self.batch(batch).values()), [number], [values.dtype for values in sample.values()]
        )
        return {
            name: tf.ensure_shape(row, [None, *sample[name].shape[1:]]) for name, row in zip(sample, rows, strict=True)
        }


Rows = dict[str, Any]  # tensors by name


def _picture(plan: Plan) -> Callable[[Rows], Rows]:
    """One row of a plan to the picture, its label, and how it is mixed."""
    decode = decoder(plan.source, plan.size, accurate=not plan.distorts)
    recoloured = plan.distorts and not plan.operations

    def picture(row: Rows) -> Rows:
        image, readable = decode(row["index"], row["kind"], row["window"], row["ratio"])
        if recoloured:
            image = distorted(image, row["flip"], row["colour"], slow=plan.options.slow_colour)
        elif plan.distorts:
            image = tf.cond(row["flip"], lambda: image[:, ::-1], lambda: image)
        if plan.shifts:
            image = shifted(image, row["move"])
        if plan.operations:
            image = rand_augmented(image, row["operations"], row["strengths"])
        kept = {name: row[name] for name in ("label", "patch", "own") if name in row}
        return {"image": image, "readable": readable} | kept

    return picture


def _batch(plan: Plan, *, static: bool) -> Callable[[Rows], tuple[tf.Tensor, tf.Tensor]]:
    """Pictures in batches to what a model is given."""

    def batch(rows: Rows) -> tuple[tf.Tensor, tf.Tensor]:
        readable = rows.pop("readable")
        rows = tf.cond(tf.reduce_all(readable), lambda: rows, lambda: mended(rows, readable, refill=plan.training))
        images, labels = rows["image"], rows["label"]
        if static:
            images = tf.ensure_shape(images, [plan.batch_size // plan.shard[1], *plan.size, 3])
        if plan.mixes:
            images, labels = mixed(images, tf.one_hot(labels, len(plan.source.class_names)), rows["own"], rows["patch"])
        if keras.config.image_data_format() == "channels_first":
            images = tf.transpose(images, [0, 3, 1, 2])
        return images, labels

    return batch


def _checked_shard(shard: tuple[int, int], batch_size: int, pairs: bool) -> tuple[int, int]:
    takes = "(number, count), number from 0, below count"
    if not isinstance(shard, tuple) or len(shard) != 2 or not all(map(is_integer, shard)):
        raise refuse("shard", shard, takes)
    number, count = shard
    if not 0 <= number < count:
        raise refuse("shard", shard, takes)
    positive_integer("batch_size", batch_size)
    if batch_size % (count * (2 if pairs and count > 1 else 1)):
        each = " and an even number each, whose pictures are mixed in pairs" if pairs else ""
        raise refuse("batch_size", batch_size, f"a multiple of the {count} workers{each}")
    return number, count
