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
    """DIGEST [n] -> a fixed-size binary array."""
    data = np.ascontiguousarray(keys, dtype=DIGEST)
    return pa.Array.from_buffers(pa.binary(32), len(data), [None, pa.py_buffer(data.tobytes())])


def to_digests(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size binary column -> DIGEST [n]."""
    return _concatenate([_numbers(c, DIGEST) for c in column.chunks], DIGEST)


def blank(m: int, f: Field) -> np.ndarray:
    """Placeholder values for rows without a result, [m].

    Arguments:
        m: number of rows.
        f: the field that they are of.
    """
    if f.dtype == "str":
        return np.full(m, "", dtype=object)
    dtype = np.dtype(f.dtype)
    return np.full(m, np.nan, dtype) if dtype.kind == "f" else np.zeros(m, dtype)


def to_arrow(array: np.ndarray, failed: np.ndarray, f: Field) -> pa.Array:
    """Field values as an Arrow array, null where the row failed.

    Arguments:
        array: [n], values of the field.
        failed: bool [n].
        f: the field.
    """
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
    """An Arrow column -> array [n]; nulls become blanks. It may be a read-only view of the column.

    Arguments:
        column: of the type `arrow_type(f)`; texts may be dictionary-encoded.
        f: the field.
    """
    if f.dtype == "str":
        texts, codes = encoded_texts(column)  # equal texts, such as words of a skill: one object
        return texts[codes]
    dtype = np.dtype(f.dtype)
    array = _concatenate([_numbers(c, dtype) for c in column.chunks], dtype)
    if column.null_count:
        array = np.where(_nulls(column), blank(1, f), array)
    return array


def column_array(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers, truth values or texts -> array [n]; null is NaN, false or "".

    Equal texts are one object, in an array of objects.

    Arguments:
        column: of a file that thresher or a user wrote.
    """
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        texts, codes = encoded_texts(column)
        return texts[codes]
    if pa.types.is_boolean(kind):
        values = _concatenate([_numbers(c, bool) for c in column.chunks], bool)
        return values & ~_nulls(column) if column.null_count else values
    dtype = np.dtype(kind.to_pandas_dtype())
    values = _concatenate([_numbers(c, dtype) for c in column.chunks], dtype)
    if not column.null_count:
        return values
    return np.where(_nulls(column), np.nan, values)


def encoded_texts(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """(texts: object [k], codes: int32 [n]): the text of row i is `texts[codes[i]]`; null is "".

    Arguments:
        column: of strings, dictionary-encoded or not.
    """
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    chunks = encoded.unify_dictionaries().chunks
    dictionary = chunks[0].dictionary.to_pylist() if chunks else []
    texts = np.array([*dictionary, ""], dtype=object)
    codes = _concatenate([_numbers(c.indices, np.int32) for c in chunks], np.int32)
    if column.null_count:
        codes = np.where(_nulls(column), np.int32(len(dictionary)), codes)
    return texts, codes


# Arrow's own conversion to NumPy (`to_numpy`, `np.asarray`) and its scalars import pandas where it
# is installed, which takes as long as reading a million rows. Hence the buffers.


def _numbers(chunk: pa.Array, dtype: np.dtype | str | type) -> np.ndarray:
    """The values of an array of numbers, truth values or fixed-size bytes, [n]; any value where
    they are null."""
    dtype, data = np.dtype(dtype), chunk.buffers()[1]
    if not len(chunk) or data is None:
        return np.zeros(len(chunk), dtype)
    if dtype.kind == "b":
        return _bits(data, chunk.offset, len(chunk))
    return np.frombuffer(data, dtype, len(chunk), chunk.offset * dtype.itemsize)


def _nulls(column: pa.ChunkedArray) -> np.ndarray:
    """bool [n]: which values are null."""
    known = [
        np.ones(len(c), bool)
        if (valid := c.buffers()[0]) is None
        else _bits(valid, c.offset, len(c))
        for c in column.chunks
    ]
    return ~_concatenate(known, bool)


def _bits(data: pa.Buffer, offset: int, n: int) -> np.ndarray:
    """n bits of a bitmap, bool [n]."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=offset + n, bitorder="little")
    return bits[offset:].view(bool)


def _concatenate(chunks: list[np.ndarray], dtype: np.dtype | str | type) -> np.ndarray:
    """The chunks in one array; a single one is not copied."""
    if len(chunks) == 1:
        return chunks[0]
    return np.concatenate(chunks) if chunks else np.zeros(0, dtype)
