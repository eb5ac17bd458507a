"""The one place where the tables' columns become Spark and Arrow types.

`schemas/bakehouse_schemas/replay/tables.py` names them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from bakehouse_schemas.replay.tables import TABLES, LogicalType

if TYPE_CHECKING:
    from pyspark.sql.types import DataType, StructType

_ARROW: dict[str, pa.DataType] = {
    "string": pa.string(),
    "double": pa.float64(),
    "float": pa.float32(),
    "int": pa.int32(),
    "long": pa.int64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


def arrow_type(logical: LogicalType) -> pa.DataType:
    """The Arrow type of a column as `schemas/bakehouse_schemas/replay/tables.py` describes it."""
    if isinstance(logical, str):
        return _ARROW[logical]
    if isinstance(logical, list):
        return pa.list_(pa.field("element", arrow_type(logical[0])))
    return pa.struct([pa.field(name, arrow_type(inner)) for name, inner in logical.items()])


def arrow_schema(table: str) -> pa.Schema:
    """Arrow schema of `replay`, `outcomes` or `quarantine`."""
    columns = TABLES[table].items()
    return pa.schema([pa.field(name, arrow_type(logical)) for name, logical in columns])


def spark_type(logical: LogicalType) -> DataType:
    """The Spark type of a column as `schemas/bakehouse_schemas/replay/tables.py` describes it."""
    from pyspark.sql import types

    if isinstance(logical, list):
        return types.ArrayType(spark_type(logical[0]))
    if isinstance(logical, dict):
        return types.StructType(
            [types.StructField(name, spark_type(inner)) for name, inner in logical.items()]
        )
    simple: dict[str, DataType] = {
        "string": types.StringType(),
        "double": types.DoubleType(),
        "float": types.FloatType(),
        "int": types.IntegerType(),
        "long": types.LongType(),
        "boolean": types.BooleanType(),
        "timestamp": types.TimestampType(),
    }
    return simple[logical]


def spark_schema(table: str) -> StructType:
    """Spark schema of `replay`, `outcomes` or `quarantine`."""
    from pyspark.sql.types import StructField, StructType

    columns = TABLES[table].items()
    return StructType([StructField(name, spark_type(logical)) for name, logical in columns])
