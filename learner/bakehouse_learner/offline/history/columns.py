"""The columns of `replay` as Arrow types."""

from __future__ import annotations

import pyarrow as pa

from bakehouse_schemas.replay.tables import REPLAY, LogicalType

_TYPES = {
    "string": pa.string(),
    "long": pa.int64(),
    "int": pa.int32(),
    "double": pa.float64(),
    "float": pa.float32(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


def arrow_type(logical: LogicalType) -> pa.DataType:
    """The Arrow type of a logical one; see `bakehouse_schemas.replay.tables`."""
    if isinstance(logical, str):
        return _TYPES[logical]
    if isinstance(logical, list):
        return pa.list_(arrow_type(logical[0]))
    return pa.struct([(name, arrow_type(kind)) for name, kind in logical.items()])


REPLAY_SCHEMA = pa.schema([(name, arrow_type(kind)) for name, kind in REPLAY.items()])
