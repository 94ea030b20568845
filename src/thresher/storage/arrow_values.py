"""Values of the store's fields as Arrow columns, and back as NumPy arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from thresher.errors import StoreError
from thresher.types import DIGEST, Field


def arrow_type(f: Field) -> pa.DataType:
    """float32, int32, bool, …; `S32` = fixed bytes; `str` = text."""
    if f.dtype == "str":
        return pa.string()
    dtype = np.dtype(f.dtype)
    if dtype.kind == "S":
        return pa.binary(dtype.itemsize)
    if dtype.kind not in "biuf":
        raise StoreError(
            f"Field {f.name!r} has dtype {f.dtype!r}; the store keeps numbers, bool, S<n> and str."
        )
    return pa.from_numpy_dtype(dtype)


def from_digests(keys: np.ndarray) -> pa.Array:
    data = np.ascontiguousarray(keys, dtype=DIGEST)
    return pa.Array.from_buffers(pa.binary(32), len(data), [None, pa.py_buffer(data.tobytes())])


def to_digests(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size binary column -> DIGEST [n]."""
    chunks = [_fixed_bytes(c, 32) for c in column.chunks]
    return np.concatenate(chunks) if chunks else np.zeros(0, DIGEST)


def blank(m: int, f: Field) -> np.ndarray:
    """Placeholder values for rows without a result, [m]."""
    if f.dtype == "str":
        return np.full(m, "", dtype=object)
    dtype = np.dtype(f.dtype)
    return np.full(m, np.nan, dtype) if dtype.kind == "f" else np.zeros(m, dtype)


def to_arrow(array: np.ndarray, failed: np.ndarray, f: Field) -> pa.Array:
    """Field values as an Arrow array, null where the row failed."""
    kind = arrow_type(f)
    if f.dtype == "str":
        return pa.array(array.tolist(), kind, mask=failed)
    array = np.ascontiguousarray(array, dtype=f.dtype)
    if np.dtype(f.dtype).kind == "S":
        width = np.dtype(f.dtype).itemsize
        raw = array.tobytes()
        return pa.array(
            [raw[i * width : (i + 1) * width] for i in range(len(array))], kind, mask=failed
        )
    return pa.array(array, kind, mask=failed)


def to_numpy(column: pa.ChunkedArray, f: Field) -> np.ndarray:
    """An Arrow column -> array [n]; nulls become blanks."""
    if f.dtype == "str":
        # equal texts, such as the words of a skill, become one object
        encoded = column.fill_null("").dictionary_encode().combine_chunks()
        texts = np.array(encoded.dictionary.to_pylist(), dtype=object)
        return texts[encoded.indices.to_numpy()]
    dtype = np.dtype(f.dtype)
    if dtype.kind == "S":
        out = np.concatenate(
            [_fixed_bytes(c, dtype.itemsize) for c in column.chunks] or [np.zeros(0, dtype)]
        )
        if column.null_count:
            out = np.where(np.asarray(column.is_null(), dtype=bool), np.zeros(1, dtype), out)
        return out
    zero = False if dtype.kind == "b" else 0
    null = np.asarray(column.is_null(), dtype=bool) if column.null_count else None
    array = np.asarray(
        column.fill_null(pa.scalar(zero, column.type)) if null is not None else column
    ).astype(dtype)
    if null is not None:
        array[null] = blank(1, f)[0]
    return array


def _fixed_bytes(chunk: pa.Array, width: int) -> np.ndarray:
    buffer = chunk.buffers()[1]
    if buffer is None:
        return np.zeros(len(chunk), f"S{width}")
    return np.frombuffer(buffer, dtype=f"S{width}", count=len(chunk), offset=chunk.offset * width)
