"""Exporting and serving: runs an OpenVINO export, and shows the commands of TensorFlow Serving.

    uv run --extra cpu --extra export python examples/export_and_serve.py

Trains a model on handwritten digits (or takes `--run`) and writes it as an OpenVINO IR and as a SavedModel, each
compared with the Keras model before it is kept. Then it runs the IR without TensorFlow's graph, and prints the
commands that serve the SavedModel. `--server http://localhost:8501` also sends a request to a running server.
"""

from __future__ import annotations

import argparse
import base64
import json
import shlex
import urllib.request
from pathlib import Path

import numpy as np
from digit_pictures import write_digits
from new_folder import new_folder

from inception_resnet_keras import export_model, predict, train
from inception_resnet_keras.common.console import printable
from inception_resnet_keras.data.folders import picture_files

NAME = "inception"  # of the model on the server

# TensorFlow Serving needs a folder of versions. `encoded` takes the bytes of JPEG and PNG files, `serving_default`
# arrays of pixels of 0-255; REST takes base64 as {"b64": …}.
# The image is sent through a pipe, because one of 100 KB would be too long for an argument of curl.
SERVING = r"""docker run -p 8501:8501 -v {folder}:/models/{name} -e MODEL_NAME={name} tensorflow/serving

{{ printf '{{"signature_name":"encoded","instances":[{{"b64":"'; base64 < {picture} | tr -d '\n'; printf '"}}]}}'; }} |
  curl -s -d @- http://localhost:8501/v1/models/{name}:predict
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="the folder of a run of `train` (default: train one)")
    parser.add_argument("--model", default="inception_resnet_v1", help="network to train without --run")
    parser.add_argument("--size", type=int, default=75)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--server", help="address of a running TensorFlow Serving, such as http://localhost:8501")
    parser.add_argument("--out", type=Path, help="a new folder for the results (default: a temporary one)")
    args = parser.parse_args()
    out = new_folder(args.out, "serving")
    run, data = args.run, write_digits(out / "digits", range(10), args.per_class)
    if run is None:
        run = train(data, out=out / "run", model=args.model, size=args.size, epochs=args.epochs).folder.path
    pictures = picture_files(data)[:: args.per_class]  # one per digit

    for name, target in (("model.xml", "openvino"), (f"{NAME}/1", "saved_model")):
        (out / name).parent.mkdir(exist_ok=True)
        print(export_model(run, out / name, target))
    by_keras, by_openvino = (
        [prediction.top[0] for prediction in predict(path, pictures)] for path in (run, out / "model.xml")
    )
    for picture, ours, theirs in zip(pictures, by_keras, by_openvino, strict=True):
        print(f"{picture.parent.name}: Keras says {ours[0]} {ours[1]:.2%}, OpenVINO {theirs[0]} {theirs[1]:.2%}")
    apart = np.abs(np.array([ours[1] for ours in by_keras]) - np.array([theirs[1] for theirs in by_openvino])).max()
    print(f"the probabilities differ by {apart:.1e} at most\n\nTo serve it, and to ask for a picture's classes:\n")
    folder, picture = (shlex.quote(str(path.resolve())) for path in (out / NAME, pictures[0]))
    print(SERVING.format(folder=folder, name=NAME, picture=picture))
    if args.server:
        print(f"{printable(pictures[0])}: {ask(args.server, pictures[0])}")


def ask(server: str, picture: Path) -> str:
    """A server's answer for the file of an image."""
    encoded = base64.b64encode(picture.read_bytes()).decode()
    body = json.dumps({"signature_name": "encoded", "instances": [{"b64": encoded}]}).encode()
    request = urllib.request.Request(f"{server}/v1/models/{NAME}:predict", body)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


if __name__ == "__main__":
    main()
