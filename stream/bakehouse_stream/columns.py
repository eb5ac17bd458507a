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


def conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows with the columns of `schema`, in its order, at any depth: what they lack is null, and
    what it does not name is left out."""
    there = set(rows.schema.names)
    columns = [
        # a cast of structs goes by the names of their fields
        rows.column(field.name).cast(field.type)
        if field.name in there
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def has_all(there: pa.DataType | pa.Schema, wanted: pa.DataType | pa.Schema) -> bool:
    """Whether every field of `wanted`, at any depth, is in `there` too."""
    if isinstance(wanted, pa.ListType) and isinstance(there, pa.ListType):
        return has_all(there.value_type, wanted.value_type)
    if not isinstance(wanted, (pa.Schema, pa.StructType)):
        return True
    if not isinstance(there, (pa.Schema, pa.StructType)):
        return False
    known = {field.name: field.type for field in there}
    return all(field.name in known and has_all(known[field.name], field.type) for field in wanted)


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
