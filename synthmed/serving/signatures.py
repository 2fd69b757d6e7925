"""The signatures of an exported generator: what a client can ask of it, by names of tensors."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from keras import ops

if TYPE_CHECKING:
    from synthmed.generation.bundle import GeneratorBundle
    from synthmed.generation.info import GeneratorInfo


@dataclass(frozen=True)
class Signature:
    """One way to call an exported generator."""

    name: str
    function: Callable[..., dict[str, Any]]
    inputs: dict[str, tuple[str, tuple[int | None, ...]]]
    """Type and shape of each input, in the order and by the names of the function's arguments."""


def generator_signatures(bundle: "GeneratorBundle", info: "GeneratorInfo") -> list[Signature]:
    """Return the signatures of a generator, the default one first.

    Items follow from their seeds, so any number of them can be asked for at once and a server may batch requests.
    Images, styles and geometry are float32, label maps uint8, the number of a template int32. `sample_bytes` answers as
    `sample`, with the bytes of each array (little-endian, rows before columns before channels) in place of its numbers.
    Every signature refuses inputs of another rank or size than its own, or of different numbers of items.

    Args:
        bundle: The generator.
        info: Its description as it may be published.
    """
    inputs = _inputs(bundle, info)

    def mapping(z):
        return {"w": ops.cast(bundle.mapping(z), "float32")}

    def geometry(seed):
        chosen = bundle.template_index(seed)
        return {"template": chosen, **{key: ops.take(table, chosen, axis=0) for key, table in tables.items()}}

    def describe(seed):
        return {"description": tf.fill(tf.shape(seed), description)}

    def sample(seed, psi):
        return draw(seed, psi)

    def sample_bytes(seed, psi):
        drawn = draw(seed, psi)
        return {f"{key}_bytes": _bytes(value) for key, value in drawn.items()} | {
            "template": bundle.template_index(seed)
        }

    tables, description = _geometry_tables(info), info.model_dump_json()
    drawing = _drawing_of_masks(bundle, inputs) if info.variant == "cond" else _drawing(bundle, inputs)
    draw = _traced_once(drawing["sample"], inputs, "seed", "psi")
    drawing["sample"] = sample
    if not bundle.is_conditional:
        drawing.pop("sample_told")
    common: dict[str, Callable[..., dict[str, Any]]] = {
        "sample_bytes": sample_bytes,
        "mapping": mapping,
        "geometry": geometry,
        "describe": describe,
    }
    signatures = []
    for name, function in (drawing | common).items():
        own = {key: inputs[key] for key in inspect.signature(function).parameters}
        signatures.append(Signature(name, _guarded(function, own), own))
    return signatures


def _guarded(function: Callable[..., Any], inputs: dict[str, tuple[str, tuple[int | None, ...]]]) -> Callable[..., Any]:
    """Return a function that refuses inputs which do not fit before any of its operations runs.

    Neither TensorFlow nor TensorFlow Serving compares what arrives with a signature, and a convolution that meets an
    array of another rank, or an empty one, ends the process.
    """

    @functools.wraps(function)
    def guarded(*arguments, **named):
        given = inspect.signature(function).bind(*arguments, **named).arguments
        fitting = {name: tf.ensure_shape(value, inputs[name][1]) for name, value in given.items()}
        counts = tf.stack([tf.shape(value)[0] for value in fitting.values()])
        agree = tf.reduce_all(tf.equal(counts, counts[0])) & (counts[0] > 0)
        wrong = f"the numbers of items of {', '.join(fitting)} are to be the same, and at least 1:"
        with tf.control_dependencies([tf.debugging.Assert(agree, [wrong, counts])]):
            return function(**{name: tf.identity(value) for name, value in fitting.items()})

    return guarded


def _drawing(bundle: "GeneratorBundle", inputs: dict[str, Any]) -> dict[str, Callable[..., dict[str, Any]]]:
    synthesise = _traced_once(lambda w, seed: _float32(bundle.synthesis(w, seed)), inputs, "w", "seed")
    draw = _traced_once(
        lambda seed, psi, position, shown: _float32(bundle.sample(seed, psi, None, _told(position, shown))),
        inputs,
        *("seed", "psi", "position", "shown"),
    )

    def serving_default(z):
        return synthesise(bundle.mapping(z), _still(z))

    def sample(seed, psi):
        told = bundle.conditioning(seed)
        return _float32(bundle.sample(seed, psi)) if told is None else draw(seed, psi, **told)

    def sample_told(seed, psi, position, shown):
        return draw(seed, psi, position, shown)

    def synthesis(w, seed):
        return synthesise(w, seed)

    return {"serving_default": serving_default, "sample": sample, "sample_told": sample_told, "synthesis": synthesis}


def _drawing_of_masks(bundle: "GeneratorBundle", inputs: dict[str, Any]) -> dict[str, Callable[..., dict[str, Any]]]:
    synthesise = _traced_once(
        lambda w, seed, mask: _float32(bundle.synthesis(w, seed, mask)), inputs, "w", "seed", "mask"
    )
    draw = _traced_once(
        lambda seed, psi, mask, position, shown: _float32(bundle.sample(seed, psi, mask, _told(position, shown))),
        inputs,
        *("seed", "psi", "mask", "position", "shown"),
    )

    def told(seed):
        return bundle.conditioning(seed) or _nothing(seed, bundle.generator.classes)

    def serving_default(z, mask):
        return synthesise(bundle.mapping(z), _still(z), mask)

    def sample(seed, psi):
        return sample_told(seed, psi, **told(seed))

    def sample_told(seed, psi, position, shown):
        mask = ops.cast(bundle.masks(seed, psi, _told(position, shown)), "int32")
        return draw(seed, psi, mask, position, shown)

    def sample_given_mask(seed, psi, mask):
        return draw(seed, psi, mask, **told(seed))

    def synthesis(w, seed, mask):
        return synthesise(w, seed, mask)

    return {
        "serving_default": serving_default,
        "sample": sample,
        "sample_given_mask": sample_given_mask,
        "sample_told": sample_told,
        "synthesis": synthesis,
    }


def _inputs(bundle: "GeneratorBundle", info: "GeneratorInfo") -> dict[str, tuple[str, tuple[int | None, ...]]]:
    styles = bundle.mapping(np.zeros((1, info.z_dim), np.float32)).shape[1:]
    return {
        "z": ("float32", (None, info.z_dim)),
        "w": ("float32", (None, *styles)),
        "seed": ("int64", (None,)),
        "psi": ("float32", (None,)),
        "mask": ("int32", (None, *info.size)),
        "position": ("float32", (None,)),
        "shown": ("float32", (None, len(info.classes) - 1)),
    }


def _traced_once(function: Callable[..., Any], inputs: dict[str, Any], *names: str) -> Callable[..., Any]:
    # Signatures share the graph of a network, which halves the time of an export and the size of what is loaded.
    specs = [tf.TensorSpec(inputs[name][1], inputs[name][0], name=name) for name in names]
    return tf.function(function, input_signature=specs, autograph=False)


def _told(position, shown) -> dict[str, Any]:
    return {"position": position, "shown": shown}


def _nothing(seed, classes: int) -> dict[str, Any]:
    # What a generator is told that listens to nothing; its signatures then share one graph all the same.
    count = ops.shape(seed)[0]
    return _told(ops.zeros((count,), "float32"), ops.zeros((count, classes - 1), "float32"))


def _still(z):
    # Latent codes come without a seed: every item then has the noise of seed 0.
    return ops.zeros((ops.shape(z)[0],), dtype="int64")


def _float32(outputs: dict[str, Any]) -> dict[str, Any]:
    return {key: value if key == "mask" else ops.cast(value, "float32") for key, value in outputs.items()}


def _bytes(arrays):
    """Return the bytes of each array of a batch `[b, ...]`: float32 or uint8, the first axis slowest."""

    def one(array):
        # The values end the message; type and shape, which serialisation puts before them, are of no use here.
        length = tf.size(array) * array.dtype.size
        return tf.strings.substr(tf.io.serialize_tensor(array), -length, length)

    return tf.map_fn(one, tf.convert_to_tensor(arrays), fn_output_signature=tf.string)


def _geometry_tables(info: "GeneratorInfo") -> dict[str, np.ndarray]:
    """Return what each template says: affine of a slice [T, 4, 4], scale and offset of its channels [T, C]."""
    return {
        "affine": np.array([template.affine for template in info.templates], np.float32),
        "scale": np.array([template.scale for template in info.templates], np.float32),
        "offset": np.array([template.offset for template in info.templates], np.float32),
    }
