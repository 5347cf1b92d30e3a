"""The examples in the docstrings of the public training functions, run on small folders of digits."""

import inspect
import re
import textwrap
from dataclasses import replace
from pathlib import Path

import keras
import pytest

import inception_resnet_keras
from inception_resnet_keras import networks

from ..pictures import write_digits
from ..tiny import STAGED


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "finetune", "find_learning_rate"])
def test_examples_of_public_training_functions_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The network's table is a small one, with as many kinds of blocks: the examples train in seconds.
    small = replace(STAGED, name="inception_resnet_v1")
    variants = networks.NETWORKS[small.name]
    monkeypatch.setitem(networks.NETWORKS, small.name, {**variants, small.variant: small})
    write_digits(tmp_path / "photos")
    write_digits(tmp_path / "new photos", classes=2)
    monkeypatch.chdir(tmp_path)
    documented = inspect.getdoc(getattr(inception_resnet_keras, name)) or ""
    examples = re.findall(r"```python\n(.*?)```", documented, re.S)
    assert examples
    public = {each: getattr(inception_resnet_keras, each) for each in vars(inception_resnet_keras)["__all__"]}
    scope = {**public, "keras": keras}
    for number, text in enumerate(examples):
        exec(compile(textwrap.dedent(text), f"{name}: example {number}", "exec"), scope)
    assert list(tmp_path.glob("runs/*"))
    assert capsys.readouterr().out
