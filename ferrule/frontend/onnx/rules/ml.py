"""Host rules for operators of ai.onnx.ml on strings and maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.base.errors import InputError
from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.rules.ml_features import default, table
from ferrule.frontend.onnx.table import ML, Attributes, host


@host("ArrayFeatureExtractor", domain=ML)
def _features(a: Attributes, x: Array, places: Array) -> Array:
    wide = x.reshape(1, -1) if x.ndim == 1 else x
    return wide[..., places.reshape(-1)]


@host("LabelEncoder", domain=ML, since=2)
def _labels(a: Attributes, x: Array) -> Array:
    """Each element replaced by what a table says, the default where it is not in there."""
    keys, values = table(a, "keys"), table(a, "values")
    found = dict(zip(map(_key, keys.tolist()), values.tolist()))
    return _mapped(x, found, default(a, values.dtype), values.dtype)


@host("LabelEncoder", "CategoryMapper", domain=ML)
def _classes(a: Attributes, x: Array) -> Array:
    """Strings by numbers and numbers by strings; in version 1 of LabelEncoder these count."""
    mapper = a.op.type == "CategoryMapper"
    names = a.texts("cats_strings" if mapper else "classes_strings")
    ids = a.ints("cats_int64s") if mapper else range(len(names))
    if x.dtype == np.dtype(object):
        found = dict(zip(names, ids))
        return _mapped(x, found, a.int("default_int64", -1), np.dtype(np.int64))
    back = dict(zip(ids, names))
    return _mapped(x, back, a.text("default_string", "_Unused"), np.dtype(object))


def _mapped(x: Array, found: dict[Any, Any], rest: Any, dtype: np.dtype[Any]) -> Array:
    out = np.empty(x.size, dtype)
    out[:] = [found.get(_key(v), rest) for v in x.ravel().tolist()]
    return out.reshape(x.shape)


def _key(v: Any) -> Any:
    return "nan" if isinstance(v, float) and v != v else v


@host("OneHotEncoder", domain=ML)
def _one_hot(a: Attributes, x: Array) -> Array:
    strings = x.dtype == np.dtype(object)
    names = np.array(a.get("cats_strings" if strings else "cats_int64s"), x.dtype)
    out = np.asarray((x[..., None] if strings else x[..., None].astype(np.int64)) == names)
    if not a.int("zeros", 1) and not out.any(-1).all():
        strange = x[~out.any(-1)].ravel().tolist()[0]
        raise InputError(f"{strange!r} is none of the {len(names)} categories")
    return out.astype(np.float32)


@host("DictVectorizer", domain=ML)
def _vectorized(a: Attributes, x: Any) -> Array:
    """The values of a map, in the order of a vocabulary."""
    ints = a.has("int64_vocabulary")
    names = a.ints("int64_vocabulary") if ints else a.texts("string_vocabulary")
    values = [x.get(n, 0) for n in names]
    real = any(isinstance(v, float) for v in values)
    return np.array([values], np.float32 if real else np.int64)
