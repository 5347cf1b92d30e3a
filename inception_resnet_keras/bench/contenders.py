"""Who takes part in a benchmark, as a line of text: `WHAT[+FORM][@ENGINE[,PRECISION]]`.

Standard library only: `bench --help` tells of it, and a wrong one is refused before anything is started.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from .. import networks
from ..common.errors import InputError
from ..deploy.formats import FORMATS
from ..networks.rows import Network

APPLICATIONS = "keras-applications"

TIMM = "timm:"

TIMM_NETWORKS = ("inception_resnet_v2", "inception_v4")

OPTIMIZED, APART = "optimized", "apart"  # forms of a network

IN_TENSORFLOW = ("graph", "xla")

IN_TORCH = ("eager", "compile")

AS_SAVED = "saved"
# By engine, the format that `export_model` writes for it.
EXPORTED = {"openvino": "openvino", "onnxruntime": "onnx", "litert": "litert", "savedmodel": "saved_model"}

WEIGHTS_ALONE = ("onnxruntime", "litert")  # whose float16 is how weights are kept: on a CPU they multiply float32
# Each engine's precisions, its default first. float32 is exact: of a GPU's, tf32 is the faster one.
PRECISIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(IN_TENSORFLOW, ("float32", "tf32", "mixed_bfloat16", "mixed_float16")),
    **{engine: FORMATS[target].precisions for engine, target in EXPORTED.items()},
    **dict.fromkeys(IN_TORCH, ("float32", "tf32", "bfloat16", "float16")),
}

FILES = {FORMATS[target].suffix: engine for engine, target in EXPORTED.items() if FORMATS[target].suffix}

SAVED = ".keras"

COMPUTED_IN = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}

_ALIKE = [[*IN_TENSORFLOW], *([engine] for engine in EXPORTED), [*IN_TORCH]]

_PRECISIONS = "\n".join(
    f"             of {', '.join(engines)}: {', '.join(PRECISIONS[engines[0]])}" for engines in _ALIKE
)

GRAMMAR = f"""\
A contender is WHAT[+FORM][@ENGINE[,PRECISION]]

  WHAT       a network of ours, NETWORK[:VARIANT], such as inception_resnet_v2:slim
             {APPLICATIONS}   (Keras's own InceptionResNetV2)
             {TIMM}{TIMM_NETWORKS[0]}, {TIMM}{TIMM_NETWORKS[1]}   (where torch and timm are installed)
             a run's folder or a .keras file; an exported model: {", ".join(FILES)}, a SavedModel's folder
  FORM       {OPTIMIZED}: by optimize_for_inference; {APART}: the same with sibling 1×1 convolutions left
             apart. An export is {OPTIMIZED} as it is made, and may be {APART}
  ENGINE     of ours, a .keras file and {APPLICATIONS}: graph (default), xla
             of ours and a .keras file, exported for it as `export` does: {", ".join(EXPORTED)}
             of {TIMM.rstrip(":")}: eager (default), compile
             of an exported model: the one that its ending says
  PRECISION  the first one where none is given; float32 is exact, tf32 a GPU's faster one
{_PRECISIONS}

Such as: inception_resnet_v2:slim+{OPTIMIZED}@xla,mixed_bfloat16   inception_v4:slim@openvino,int8   run/model.xml"""


@dataclass(frozen=True)
class Contender:
    """One that takes part; `str()` of it is the line that `parse` takes.

    what: a network of ours as "name:variant", a peer's name, or a path.
    form: OPTIMIZED, APART, or empty for the network as it was built.
    engine, precision: of PRECISIONS; AS_SAVED is the precision of a file that was exported before.
    """

    what: str
    form: str = ""
    engine: str = "graph"
    precision: str = "float32"

    def __str__(self) -> str:
        default = self.precision in (AS_SAVED, PRECISIONS[self.engine][0])
        precision = "" if default else f",{self.precision}"
        return f"{self.what}{self.form and f'+{self.form}'}@{self.engine}{precision}"

    @property
    def kind(self) -> str:
        """ "ours", "applications", "timm", "saved" (a .keras file) or "exported"."""
        if self.what == APPLICATIONS:
            return "applications"
        if self.what.startswith(TIMM):
            return "timm"
        if self.what.partition(":")[0] in networks.NETWORKS:
            return "ours"
        return "exported" if self.precision == AS_SAVED else "saved"

    @property
    def computed_in(self) -> str:
        """The type of its multiplications: "float32", "tf32", "bfloat16", "float16", "int8", or "saved"."""
        return COMPUTED_IN.get(self.precision, self.precision)

    @property
    def network(self) -> Network | None:
        """The table whose multiply-adds it computes; None of a file, whose card tells."""
        if self.kind == "ours":
            return networks.find(*self.what.split(":"))
        if self.kind == "applications":
            return networks.find("inception_resnet_v2", "slim")
        return networks.find(self.what.removeprefix(TIMM), "slim") if self.kind == "timm" else None

    @property
    def artefact(self) -> bool:
        """Whether it has to be exported before it can run."""
        return self.engine in EXPORTED and self.precision != AS_SAVED

    @property
    def trainable(self) -> str:
        """Empty where it can be trained, or why it cannot."""
        if self.kind not in ("ours", "applications", "timm"):
            return "a saved model is not trained here: name its network"
        if self.engine in EXPORTED:
            return f"{self.engine} does not train"
        return "a network whose batch norm is folded is not trained" if self.form else ""


def parse(text: str) -> Contender:
    """The contender of a line.

    Raises InputError, which names the part that is wrong and the nearest right line.
    """
    what, form, engine, precision = _split(text)
    what, engines = _what(text, what)
    if engine and engine not in engines:
        raise _refused(text, "engine", engine, engines)
    engine = engine or engines[0]
    takes = PRECISIONS[engine]
    if _is_exported(what):
        if precision or form:
            raise InputError(f"contender {text!r}: {what} runs as it was exported; give {what!r} alone")
        return Contender(what, "", engine, AS_SAVED)
    if precision and precision not in takes:
        raise _refused(text, "precision", precision, takes)
    plain = text.replace(f"+{form}", "")
    if form and (what == APPLICATIONS or what.startswith(TIMM)):
        raise InputError(f"contender {text!r}: {form} is for our networks; give {plain!r}")
    if form == OPTIMIZED and engine in EXPORTED:
        raise InputError(f"contender {text!r}: an export is optimized as it is made; give {plain!r}")
    return Contender(what, form, engine, precision or takes[0])


def parse_all(texts: Iterable[str]) -> list[Contender]:
    """The contenders of several lines; InputError where one stands twice."""
    found: list[Contender] = []
    for text in texts:
        contender = parse(text)
        if contender in found:
            raise InputError(f"contender {text!r}: {contender} is named twice; give it once")
        found.append(contender)
    return found


def _split(text: str) -> tuple[str, str, str, str]:
    what, at, how = text.rpartition("@")
    if not at or "/" in how or "\\" in how:  # a folder's name may hold an @
        what, how = text, ""
    engine, _, precision = how.partition(",")
    form = next((form for form in (OPTIMIZED, APART) if what.endswith(f"+{form}")), "")
    return what.removesuffix(f"+{form}"), form, engine, precision


def _what(text: str, what: str) -> tuple[str, tuple[str, ...]]:
    """The subject with its variant written out, and the engines it can run on."""
    if what == APPLICATIONS:
        return what, IN_TENSORFLOW
    if what.startswith(TIMM):
        name = what.removeprefix(TIMM)
        if name not in TIMM_NETWORKS:
            raise _refused(text, "network of timm", name, TIMM_NETWORKS)
        return what, IN_TORCH
    own = (*IN_TENSORFLOW, *EXPORTED)
    name, colon, variant = what.partition(":")
    if name in networks.NETWORKS:
        variants = tuple(networks.NETWORKS[name])
        if colon and variant not in variants:
            raise _refused(text, f"variant of {name}", variant, variants)
        return f"{name}:{variant or variants[0]}", own
    path = Path(what)
    if path.suffix in FILES:
        return what, (FILES[path.suffix],)
    if path.suffix == SAVED or (path / "model.keras").is_file():
        return what, own
    if (path / "saved_model.pb").is_file():
        return what, ("savedmodel",)
    if "/" in what or "\\" in what or path.exists():
        takes = f"a run's folder, a {SAVED} file, or an exported model: {', '.join(FILES)}, a SavedModel's folder"
        raise InputError(f"contender {text!r}: {what} is no model that can be opened; it takes {takes}")
    every = [f"{network}:{variant}" for network, variants in networks.NETWORKS.items() for variant in variants]
    raise _refused(text, "network", what, [APPLICATIONS, *(TIMM + name for name in TIMM_NETWORKS), *every])


def _is_exported(what: str) -> bool:
    path = Path(what)
    named = what.partition(":")[0] in networks.NETWORKS
    return not named and (path.suffix in FILES or (path / "saved_model.pb").is_file())


def _refused(text: str, part: str, got: str, choices: Iterable[str]) -> InputError:
    choices = list(choices)
    nearest = max(choices, key=lambda choice: SequenceMatcher(None, got.lower(), choice).ratio())
    head, found, tail = text.rpartition(got) if got else (text, "", "")
    suggestion = f"{head}{nearest}{tail}" if found else nearest
    return InputError(
        f"contender {text!r}: {part} {got!r} is not one of {', '.join(choices)}; the nearest right one: {suggestion!r}"
    )
