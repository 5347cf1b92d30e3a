"""OpenVINO's IR: an .xml and its .bin, the card in its runtime information; int8 by nncf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..inference.runtime import CARD_KEY, INPUT, OUTPUT
from ..saving import card_text
from .pictures import CALIBRATED_ON, Sample
from .quiet import quiet
from .source import Prepared


def write(prepared: Prepared, path: Path, calibration: Sample | None = None) -> None:
    import openvino as ov

    plain = path.with_name(f"plain_{path.name}")
    with quiet():
        prepared.exported.export(str(plain), format="openvino", verbose=False)
    model = ov.Core().read_model(plain)
    model.input(0).tensor.set_names({INPUT})
    model.output(0).tensor.set_names({OUTPUT})
    if prepared.card.precision == "int8":
        assert calibration is not None
        model = _in_int8(model, calibration)
    model.set_rt_info(card_text(prepared.card), [CARD_KEY])
    ov.save_model(model, path, compress_to_fp16=prepared.card.precision == "float16")
    del model  # it may hold the plain one's file
    for file in (plain, plain.with_suffix(".bin")):
        file.unlink()


def _in_int8(model: Any, calibration: Sample) -> Any:
    import nncf

    data = nncf.Dataset(calibration.images, lambda picture: picture[None].astype(np.float32))
    with quiet():
        return nncf.quantize(
            model,
            data,
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=min(CALIBRATED_ON, len(calibration)),
            fast_bias_correction=True,
        )
