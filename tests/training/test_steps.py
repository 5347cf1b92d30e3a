"""Optimizers, schedules and steps, against arithmetic by hand and against each other."""

from itertools import pairwise
from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras import networks
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.training.cluster import disagreements, make_strategy, strategy_kind
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.optimizers import Phase, TensorFlow1RMSprop, make_optimizer, schedule
from inception_resnet_keras.training.session import Session
from inception_resnet_keras.training.step import StepMetrics, Stepper

from ..tiny import KNOWN

PIXELS = np.random.default_rng(0).uniform(0, 255, (3, 8, 32, 32, 3)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, (3, 8))


@pytest.fixture(autouse=True)
def _no_test_before_has_asked_for_determinism() -> None:
    """Which XLA cannot give, and which TensorFlow's public API never takes back."""
    from tensorflow.python.framework.config import disable_op_determinism

    disable_op_determinism()


@pytest.fixture(autouse=True)
def _small_ones_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, variants in KNOWN.items():
        monkeypatch.setitem(networks.NETWORKS, name, variants)


def config(**settings: Any) -> TrainConfig:
    usual = {"model": "few", "size": 32, "batch_size": 8, "dropout": 0.0, "optimizer": "sgd", "learning_rate": 0.01}
    return TrainConfig.from_settings({**usual, **settings})


def step_loss(session: Session, batch: int, step: int) -> float:
    return StepMetrics(*session.stepper.step(PIXELS[batch], LABELS[batch], step).numpy().tolist()).loss


def stepped(steps: int = 3, **settings: Any) -> tuple[Session, list[float]]:
    """A session after some steps, and their losses."""
    made = config(**settings)
    session = Session(made, ["a", "b", "c"], 3, 0.8, make_strategy(made))
    return session, [step_loss(session, step, step) for step in range(steps)]


def furthest(one: Session, other: Session) -> float:
    pairs = zip(one.model.weights, other.model.weights, strict=True)
    return max(float(np.abs(mine.numpy() - theirs.numpy()).max()) for mine, theirs in pairs)


def test_rmsprop_is_tensorflow_1s_by_hand() -> None:
    optimizer = TensorFlow1RMSprop(0.045, rho=0.9, momentum=0.9, epsilon=1.0)
    variable = keras.Variable([2.0, -1.0])
    optimizer.build([variable])
    value, square, momentum = np.array([2.0, -1.0]), np.ones(2), np.zeros(2)
    for gradient in ([1.0, 0.5], [-3.0, 0.0], [0.2, 0.2]):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)])
        square = 0.9 * square + 0.1 * np.square(gradient)
        momentum = 0.9 * momentum + 0.045 * np.array(gradient) / np.sqrt(square + 1.0)
        value = value - momentum
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert isinstance(again, TensorFlow1RMSprop)


def test_the_papers_learning_rate_falls_in_stairs_every_two_epochs() -> None:
    rate = schedule(
        config(learning_rate=0.045, schedule="exponential", warmup=0.0, decay_epochs=2.0), Phase(0, 10, False), 10
    )
    assert [float(rate(step)) for step in (0, 19, 20, 39, 40)] == pytest.approx(
        [0.045, 0.045, 0.045 * 0.94, 0.045 * 0.94, 0.045 * 0.94**2]
    )


@pytest.mark.parametrize("kind", ["cosine", "exponential", "constant"])
def test_a_warm_up_rises_to_the_peak(kind: str) -> None:
    rate = schedule(config(schedule=kind, warmup=0.2, learning_rate=1.0), Phase(0, 10, False), 10)
    values = [float(rate(step)) for step in range(100)]
    assert 0 < values[0] < 0.2
    assert all(later > earlier for earlier, later in pairwise(values[:20]))
    assert max(values) == pytest.approx(1.0)
    assert values[-1] == pytest.approx({"cosine": 0.0, "exponential": 0.94**3, "constant": 1.0}[kind], abs=1e-3)


@pytest.mark.parametrize("kind", ["sgd", "adamw", "rmsprop"])
def test_a_slower_variable_learns_with_its_share_of_the_rate(kind: str) -> None:
    variables = [keras.Variable([1.0], name="kernel"), keras.Variable([1.0], name="other")]
    made = config(optimizer=kind)
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 1.0)
    optimizer = make_optimizer(made, rate, variables, {variables[1].path: 0.25})
    optimizer.apply([keras.ops.ones(1), keras.ops.ones(1)])
    fast, slow = (1 - float(variable.numpy()[0]) for variable in variables)
    assert fast > 0
    assert slow == pytest.approx(fast / 4, rel=1e-5)


def test_adamws_decay_leaves_offsets_alone() -> None:
    variables = [keras.Variable([1.0], name=name) for name in ("kernel", "bias", "beta")]
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 1.0)
    optimizer = make_optimizer(config(optimizer="adamw", weight_decay=0.5), rate, variables)
    optimizer.apply([keras.ops.zeros(1)] * 3)
    assert [float(variable.numpy()[0]) for variable in variables] == pytest.approx([0.95, 1.0, 1.0])


def test_a_gradient_is_clipped_to_its_greatest_length() -> None:
    plain: dict[str, Any] = {"momentum": 0.0, "schedule": "constant", "warmup": 0.0}
    (before, _), (after, _) = (stepped(steps, clip_norm=0.25, **plain) for steps in (0, 1))
    moves = [
        new.numpy() - old.numpy()
        for old, new in zip(before.model.trainable_variables, after.model.trainable_variables, strict=True)
    ]
    assert np.sqrt(sum(np.square(move).sum() for move in moves)) == pytest.approx(0.01 * 0.25, rel=1e-4)


def test_micro_batches_accumulate_to_the_batch_and_the_average_moves_once_a_step() -> None:
    """With batch norm frozen nothing else depends on how a batch is cut."""
    same: dict[str, Any] = {"freeze_batch_norm": True, "weights": "not loaded here.keras", "average": 0.5, "l2": 1e-3}
    (whole, losses), (parts, others) = stepped(**same), stepped(**same, accumulate=4)
    assert losses == pytest.approx(others, rel=1e-5)
    assert furthest(whole, parts) < 1e-6
    for mine, theirs in zip(whole.averages, parts.averages, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), atol=1e-6)


def test_a_step_is_the_gradient_that_compute_gives_times_the_rate() -> None:
    session, _ = stepped(0, average=0.9, momentum=0.0, schedule="constant", warmup=0.0)
    before = [variable.numpy() for variable in session.model.trainable_variables]
    averages = [average.numpy() for average in session.averages]
    metrics, gradients = stepped(0)[0].stepper.compute(PIXELS[0], LABELS[0])
    figures = StepMetrics(*session.stepper.step(PIXELS[0], LABELS[0], 0).numpy().tolist())
    assert figures.loss == pytest.approx(metrics.loss, rel=1e-6)
    for variable, value, gradient in zip(session.model.trainable_variables, before, gradients, strict=True):
        np.testing.assert_allclose(variable.numpy(), value - 0.01 * gradient.numpy(), atol=1e-6)
    for average, value, weight in zip(session.averages, averages, session.model.weights, strict=True):
        np.testing.assert_allclose(average.numpy(), 0.1 * value + 0.9 * weight.numpy(), atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_step_that_is_not_finite_changes_no_weight_nor_does_one_after_it(precision: str) -> None:
    session, _ = stepped(0, precision=precision)
    figures = session.stepper.step(PIXELS[0], LABELS[0], 0)
    assert StepMetrics(*figures.numpy().tolist()).broken(precision) == ""
    before = [variable.numpy() for variable in session.model.trainable_variables]
    figures = [session.stepper.step(pixels, LABELS[1], 1) for pixels in (PIXELS[1] * np.float32("nan"), PIXELS[1])]
    assert StepMetrics(*figures[0].numpy().tolist()).broken(precision) == "loss"
    for variable, value in zip(session.model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def sessions_with_and_without_the_kernel(**settings: Any) -> tuple[Session, Session]:
    """The second one computes batch norm by Keras's own layers."""
    fused, plain = stepped(0, **settings)[0], stepped(0, **settings)[0]
    plain.stepper._forward = lambda images: plain.model(images, training=True)
    return fused, plain


@pytest.mark.parametrize(
    "settings",
    [{"model": "tiny", "aux_weight": 0.4}, {"accumulate": 2, "learning_rate": 1e-4}, {"remat": True}],
)
def test_batch_norm_in_one_kernel_is_kerass(settings: dict[str, Any]) -> None:
    """Weights and statistics, after a step and after fifty: the kernel's variance is unbiased, and Keras's biased."""
    fused, plain = sessions_with_and_without_the_kernel(**{"learning_rate": 0.001} | settings)
    for step in range(50):
        for session in (fused, plain):
            session.stepper.step(PIXELS[step % 3], LABELS[step % 3], step)
        if step == 0:
            assert furthest(fused, plain) < 1e-6
    assert furthest(fused, plain) < 1e-4


def test_batch_norm_in_half_precision_follows_kerass() -> None:
    fused, plain = sessions_with_and_without_the_kernel(precision="mixed_bfloat16", learning_rate=0.001)
    losses = np.array(
        [
            [session.stepper.step(PIXELS[step % 3], LABELS[step % 3], step).numpy()[0] for session in (fused, plain)]
            for step in range(12)
        ]
    )
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=0.02)


def test_frozen_batch_norm_stays_frozen() -> None:
    session, _ = stepped(0)
    norms = [layer for layer in session.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms[:2]:
        layer.trainable = False
    frozen = Stepper(session.model, session.optimizer, session.config, session.strategy)
    before = [layer.moving_mean.numpy() for layer in norms]
    frozen._forward(PIXELS[0])
    changed = [not np.array_equal(layer.moving_mean.numpy(), old) for layer, old in zip(norms, before, strict=True)]
    assert changed == [False, False, *[True] * (len(norms) - 2)]


def test_the_average_is_of_all_weights_by_hand_and_evaluates_in_their_place() -> None:
    session, _ = stepped(0, average=0.9)
    expected = [weight.numpy() for weight in session.model.weights]
    for step in range(3):
        session.stepper.step(PIXELS[step], LABELS[step], step)
        kept = min(0.9, (1 + step) / (10 + step))
        expected = [
            kept * mine + (1 - kept) * weight.numpy()
            for mine, weight in zip(expected, session.model.weights, strict=True)
        ]
    raw = [weight.numpy() for weight in session.model.weights]
    session.stepper.swap_averages()
    for weight, mine in zip(session.model.weights, expected, strict=True):
        np.testing.assert_allclose(weight.numpy(), mine, rtol=1e-5, atol=1e-7)
    session.stepper.swap_averages()
    assert all(np.array_equal(weight.numpy(), mine) for weight, mine in zip(session.model.weights, raw, strict=True))


@pytest.mark.parametrize(
    "settings", [{"remat": True}, {"remat": True, "aux_weight": 0.4, "model": "tiny"}, {"jit": True}]
)
def test_another_way_to_compute_gives_the_same_weights_and_statistics(settings: dict[str, Any]) -> None:
    plain = {key: value for key, value in settings.items() if key not in ("remat", "jit")}
    (one, losses), (other, others) = stepped(**plain), stepped(**settings)
    assert losses == pytest.approx(others, rel=1e-4)
    assert furthest(one, other) < 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_labels_are_the_mixture_of_their_losses(smoothing: float) -> None:
    """At one set of weights the cross entropy is linear in the labels; what is right is the greater share."""
    made = config(label_smoothing=smoothing)
    session = Session(made, ["a", "b", "c"], 3, 0.8, make_strategy(made))
    own, other = np.eye(3, dtype=np.float32)[LABELS[0]], np.eye(3, dtype=np.float32)[LABELS[1]]

    def metrics(labels: np.ndarray) -> StepMetrics:
        return session.stepper.compute(PIXELS[0], labels)[0]

    whole, one, two = metrics(LABELS[0]), metrics(own), metrics(other)
    mixed = metrics(0.7 * own + 0.3 * other)
    assert one.loss == pytest.approx(whole.loss, rel=1e-5)
    assert one.correct == whole.correct == mixed.correct
    assert mixed.loss == pytest.approx(0.7 * one.loss + 0.3 * two.loss, rel=1e-5)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_float32_weights(precision: str) -> None:
    """mixed_float16 leaves out the first steps, whose gradients are infinite at the scale it starts with."""
    made = config(precision=precision)
    session = Session(made, ["a", "b", "c"], 12, 0.8, make_strategy(made))
    before = [variable.numpy() for variable in session.model.trainable_variables]
    losses = [step_loss(session, 0, step) for step in range(12)]
    assert losses[0] == pytest.approx(stepped(1)[1][0], rel=0.02)
    assert losses[-1] < losses[0]
    variables = session.model.trainable_variables
    assert {variable.dtype for variable in variables} == {"float32"}
    assert all((variable.numpy() != old).any() for variable, old in zip(variables, before, strict=True))
    assert all(np.isfinite(variable.numpy()).all() for variable in variables)


@pytest.mark.parametrize(
    ("strategy", "environment", "gpus", "kind"),
    [
        ("auto", {}, 0, "one"),
        ("auto", {}, 1, "one"),
        ("auto", {}, 8, "mirrored"),
        ("auto", {"TF_CONFIG": "{}"}, 1, "multiworker"),
        ("auto", {"SLURM_STEP_NUM_TASKS": "4"}, 1, "multiworker"),
        ("auto", {"SLURM_STEP_NUM_TASKS": "1"}, 8, "mirrored"),
        ("auto", {"SLURM_NTASKS": "4"}, 8, "mirrored"),  # in sbatch's script, without srun
        ("one", {"TF_CONFIG": "{}"}, 8, "one"),
    ],
)
def test_auto_is_what_the_machine_and_the_scheduler_say(
    strategy: str, environment: dict[str, str], gpus: int, kind: str
) -> None:
    assert strategy_kind(config(strategy=strategy), environment, gpus) == kind


def test_workers_that_nobody_named_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="needs the environment variable TF_CONFIG"):
        strategy_kind(config(strategy="multiworker"), {})
    for damaged in ("{", "{}", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}'):
        monkeypatch.setenv("TF_CONFIG", damaged)
        with pytest.raises(InputError, match="TF_CONFIG: is damaged"):
            make_strategy(config(strategy="multiworker"))


def test_what_slurm_says_and_cannot_be_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="SLURM_STEP_NUM_TASKS: got 'four'"):
        strategy_kind(config(), {"SLURM_STEP_NUM_TASKS": "four"})
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(InputError, match="Slurm: the workers' addresses cannot be read"):
        make_strategy(config())
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "1(x2)")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(InputError, match="Slurm: the workers' addresses cannot be read"):
        make_strategy(config())
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[9-10]")
    monkeypatch.setenv("SLURMD_NODENAME", "node9")
    with pytest.raises(InputError, match="task 0 runs on node9, but TensorFlow expects it on node10"):
        make_strategy(config())


@pytest.mark.parametrize(
    ("last", "names"),
    [({"a": "x", "b": "y"}, []), ({"a": "x", "b": "z"}, ["b"]), ({"a": "", "b": "z"}, ["a", "b"])],
)
def test_what_one_of_three_workers_tells_otherwise_is_named_to_all(last: dict[str, str], names: list[str]) -> None:
    every = [{"a": "x", "b": "y"}, {"a": "x", "b": "y"}, last]
    bits: list[np.ndarray] = []

    def kept(numbers: np.ndarray) -> np.ndarray:
        bits.append(numbers)
        return numbers

    for values in every:
        disagreements(values, kept, 1)
    for values in every:
        assert disagreements(values, lambda _: np.sum(bits, axis=0), 3) == names
