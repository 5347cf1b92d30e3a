"""timm's networks on PyTorch, as a user of timm would run them fast: channels last, AMP, eager or compiled."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from .contenders import TIMM, Contender
from .engines import CLASSES, Engine, Setting, Step, pictures


class TorchEngine(Engine):
    def __init__(self, contender: Contender, files: dict[str, str], setting: Setting) -> None:
        import timm
        import torch

        self.torch, self.contender, self.setting = torch, contender, setting
        if setting.threads is not None:
            torch.set_num_threads(setting.threads)
        if setting.device == "gpu" and not torch.cuda.is_available():
            raise RuntimeError("PyTorch sees no GPU")
        if contender.precision == "tf32" and setting.device != "gpu":
            raise RuntimeError("TF32 is of NVIDIA's GPUs")
        self.device = torch.device("cuda" if setting.device == "gpu" else "cpu")
        exact = contender.precision == "float32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not exact
        torch.backends.cudnn.benchmark = True
        network = timm.create_model(contender.what.removeprefix(TIMM), pretrained=False, num_classes=CLASSES)
        network.load_state_dict(torch.load(files["weights"], weights_only=True, map_location="cpu"))
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()
        self.forward = torch.compile(self.network) if contender.engine == "compile" else self.network

    def inference(self, batch: int) -> Step:
        images = self._on_device(pictures(batch, self.setting.size))
        self.network.eval()

        def step() -> Any:
            with self.torch.inference_mode(), self._autocast():
                return self.forward(images)

        return step

    def training(self, batch: int) -> Step:
        torch = self.torch
        images = self._on_device(pictures(batch, self.setting.size))
        if self.setting.steps > 1:
            raise NotImplementedError("PyTorch takes one step a call")
        labels = (torch.arange(batch) % CLASSES).to(self.device)
        self.network.train()
        optimizer = torch.optim.SGD(self.network.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.contender.precision == "float16")

        def step() -> Any:
            optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                loss = torch.nn.functional.cross_entropy(self.forward(images), labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            return loss.detach()

        return step

    def predict(self, images: np.ndarray) -> np.ndarray:
        with self.torch.inference_mode(), self._autocast():
            logits = self.forward(self._on_device(images))
        return logits.float().softmax(dim=1).cpu().numpy()

    def wait(self, handle: Any) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def reset_memory(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.empty_cache()
            self.torch.cuda.reset_peak_memory_stats()

    def device_memory(self) -> int | None:
        return self.torch.cuda.max_memory_allocated() if self.device.type == "cuda" else None

    def facts(self) -> dict[str, Any]:
        torch = self.torch
        if self.device.type == "cpu":
            return {"device": "CPU", "intra_op_threads": torch.get_num_threads()}
        return {
            "device": torch.cuda.get_device_name(),
            "compute_capability": list(torch.cuda.get_device_capability()),
            "cuda_version": torch.version.cuda,
            "cudnn_version": torch.backends.cudnn.version(),
        }

    def _autocast(self) -> AbstractContextManager[Any]:
        kinds = {"bfloat16": self.torch.bfloat16, "float16": self.torch.float16}
        if self.contender.precision not in kinds:
            return nullcontext()
        return self.torch.autocast(self.device.type, dtype=kinds[self.contender.precision])

    def _on_device(self, images: np.ndarray) -> Any:
        scaled = self.torch.from_numpy(np.ascontiguousarray(images / 127.5 - 1, np.float32)).permute(0, 3, 1, 2)
        return scaled.to(self.device).contiguous(memory_format=self.torch.channels_last)
