"""What stands in a studio's files, and in the names of their folders, is what is learned from."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bakehouse_learner.offline.history.history import History, read_history
from bakehouse_schemas.application.actions import Discrete
from bakehouse_schemas.application.application import Agent, Application, Episodic, seconds
from bakehouse_schemas.application.observation import Boolean, Categorical, Numeric
from bakehouse_schemas.application.reward import Reward
from bakehouse_schemas.errors import InvalidHistory

SHOP = Application(
    name="shop",
    observation=[
        Numeric("age", low=0, high=100, default=30),
        Categorical("country", buckets=1024, default="nowhere"),
        Boolean("pays", default=False),
    ],
    actions=Discrete("1", "007", "NA"),
    reward=Reward({"bought": 2.0, "left": -1.0}, window=seconds(60), default=0.0),
    baseline=lambda context: "1",
)
HEADING = "age,country,pays,action,bought,left,propensity\n"


def read(folder: Path, text: str, application: Application = SHOP) -> History:
    (folder / "log.csv").write_text(text)
    return read_history(application, folder / "log.csv", contexts=True)


def contexts(history: History) -> list[dict[str, Any]]:
    return [json.loads(history.contexts[row.decision_id]) for row in history.arrivals]


def rewards(history: History) -> list[float]:
    ring = history.ring()
    return [float(reward) for reward in ring.reward[: ring.size]]


@pytest.mark.parametrize(
    "text",
    ["NA", "N/A", "null", "NULL", "None", "nan", "NaN", "#N/A", "n/a", "007", "1", "1e5", "true"],
)
def test_a_text_of_a_csv_is_what_it_says(tmp_path: Path, text: str) -> None:
    history = read(tmp_path, HEADING + f"31,{text},true,1,1,0,0.5\n")
    assert contexts(history) == [{"age": 31, "country": text, "pays": True}]


@pytest.mark.parametrize("action", ["1", "007", "NA"])
def test_an_action_of_a_csv_is_what_it_says(tmp_path: Path, action: str) -> None:
    history = read(tmp_path, HEADING + f"31,DE,true,{action},1,0,0.5\n")
    assert SHOP.actions.choices[int(history.arrivals[0].action[0])] == action


@pytest.mark.parametrize("empty", ["", '""'], ids=["empty", "quoted"])
def test_an_empty_cell_of_a_csv_is_missing_quoted_or_not(tmp_path: Path, empty: str) -> None:
    row = ",".join([empty, empty, empty, "1", empty, empty, "0.5"])
    history = read(tmp_path, HEADING + row + "\n")
    assert contexts(history) == [{}] and rewards(history) == [0.0]


def test_people_whose_ids_differ_as_texts_are_different_people(tmp_path: Path) -> None:
    ids = ["007", "7", "7.0", "NA", "1e5", "100000"]
    rows = "".join(f"31,DE,true,1,1,0,0.5,{one}\n" for one in ids)
    history = read(tmp_path, HEADING.replace("\n", ",subject_id\n") + rows)
    assert len(set(history.whose.values())) == len(ids)


@pytest.mark.parametrize(
    ("cell", "value"),
    [("31", 31), ("+31", 31), (" 31 ", 31), ("31.5", 31.5), ("3.1e1", 31.0), (".5", 0.5)],
)
def test_a_text_that_is_a_number_is_a_number_where_one_is_needed(
    tmp_path: Path, cell: str, value: float
) -> None:
    history = read(tmp_path, HEADING + f"{cell},DE,true,1,{cell},false,0.5\n")
    assert contexts(history)[0]["age"] == value
    assert rewards(history) == [pytest.approx(2.0 * value)]


@pytest.mark.parametrize("cell", ["true", "True", "TRUE", "1", "1.0"])
def test_true_and_one_are_true_in_a_csv(tmp_path: Path, cell: str) -> None:
    history = read(tmp_path, HEADING + f"31,DE,{cell},1,{cell},0,0.5\n")
    assert contexts(history)[0]["pays"] is True and rewards(history) == [2.0]


@pytest.mark.parametrize("cell", ["false", "False", "FALSE", "0", "0.0"])
def test_false_and_zero_are_false_in_a_csv(tmp_path: Path, cell: str) -> None:
    history = read(tmp_path, HEADING + f"31,DE,{cell},1,{cell},0,0.5\n")
    assert contexts(history)[0]["pays"] is False and rewards(history) == [0.0]


@pytest.mark.parametrize(
    "cell", ["unknown", "NA", "nan", "inf", "1e999", "1_000", "1,5", "\u0663", "-"]
)
def test_a_cell_that_is_no_number_is_refused_by_its_own_row_and_column_alone(
    tmp_path: Path, cell: str
) -> None:
    rows = [f"{age},DE,true,1,1,0,0.5\n" for age in ("31", "29", f'"{cell}"', "40")]
    with pytest.raises(InvalidHistory) as refused:
        read(tmp_path, HEADING + "".join(rows))
    said = f"row 3, column 'age': {cell!r} came, expected a number; nothing was learned"
    assert str(refused.value) == f"{tmp_path / 'log.csv'}: {said}"


def test_the_one_bad_cell_of_60_001_rows_is_the_one_that_is_named(tmp_path: Path) -> None:
    rows = ["31,DE,true,1,1,0,0.5\n"] * 60_001
    rows[59_999] = "31,DE,true,1,lots,0,0.5\n"
    with pytest.raises(InvalidHistory, match="row 60000, column 'bought': 'lots' came") as refused:
        read(tmp_path, HEADING + "".join(rows))
    assert "row 1," not in str(refused.value) and "more" not in str(refused.value)


@pytest.mark.parametrize(
    "time",
    ["2026-11-24T10:30:00Z", "2026-11-24 10:30:00", "1795516200000", "2026-11-24T12:30:00+02:00"],
)
def test_a_time_of_a_csv_may_be_written_in_any_way_that_is_a_time(
    tmp_path: Path, time: str
) -> None:
    history = read(
        tmp_path, HEADING.replace("\n", ",decided_at\n") + f"31,DE,true,1,1,0,0.5,{time}\n"
    )
    assert history.arrivals[0].known.received_at_ms == 1_795_516_200_000


def test_episodes_of_a_csv_follow_their_times_however_these_are_written(tmp_path: Path) -> None:
    quest = replace(
        SHOP, agent=Agent("dqn"), problem=Episodic(discount=0.9, n_step=2, timeout=seconds(30))
    )
    heading = HEADING.replace("\n", ",episode_id,decided_at,decision_id\n")
    rows = [
        "31,DE,true,1,1,0,0.5,007,1795516202000,third\n",
        "31,DE,true,1,1,0,0.5,007,2026-11-24T10:30:00Z,first\n",
        "31,DE,true,1,1,0,0.5,007,2026-11-24T12:30:01+02:00,second\n",
        "31,DE,true,1,1,0,0.5,7,2026-11-24T10:30:00Z,another\n",
    ]
    arrivals = read(tmp_path, heading + "".join(rows), quest).arrivals
    followed = {row.decision_id: list(row.successors) for row in arrivals}
    assert followed == {"first": ["second"], "second": ["third"], "third": [], "another": []}


def test_a_column_that_stands_twice_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidHistory, match="has the column 'age' twice"):
        read(tmp_path, "age," + HEADING + "30,31,DE,true,1,1,0,0.5\n")


def test_a_feature_that_no_column_gives_is_named_in_one_sentence(tmp_path: Path) -> None:
    needing = replace(SHOP, observation=[*SHOP.observation, Numeric("hours_away")])
    row = "31,DE,true,1,1,0,0.5\n"
    with pytest.raises(InvalidHistory, match="expected hours_away among them") as refused:
        read(tmp_path, HEADING + 3 * row, needing)
    assert "row" not in str(refused.value)
    text = "context,action,bought,left,propensity\n" + '"{""age"": 3}",1,1,0,0.5\n'
    with pytest.raises(InvalidHistory, match=r"column 'context'.* a value of 'hours_away' in it"):
        read(tmp_path, text, needing)


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        ('{"age": 1, "age": 9}', "the key 'age' stands twice"),
        ('{"age": NaN}', "NaN is not JSON"),
        ('{"age": 1, "z": 1e999}', "beyond the range"),
        (r'{"country": "\ud83d"}', "not valid UTF-8"),
        ("[1]", "a JSON object"),
        ("{", "not valid JSON"),
    ],
)
def test_a_context_of_a_log_is_read_by_the_parser_that_serving_reads_requests_with(
    tmp_path: Path, context: str, reason: str
) -> None:
    rows = {"context": ["{}", context], "action": ["1", "1"], "bought": [1, 1]}
    pq.write_table(pa.table(rows), tmp_path / "log.parquet")
    with pytest.raises(InvalidHistory, match=f"row 2, column 'context'.*{reason}") as refused:
        read_history(SHOP, tmp_path / "log.parquet")
    assert str(refused.value).count("row 2") == 1


def test_numbers_of_decimal_columns_are_numbers(tmp_path: Path) -> None:
    rows = {
        "age": [Decimal("31.50"), None],
        "action": ["1", "NA"],
        "bought": [Decimal("1.50"), Decimal("0.00")],
        "propensity": [Decimal("0.50"), Decimal("0.25")],
        "decided_at": [Decimal(1_795_516_200_000), Decimal(1_795_516_201_000)],
    }
    pq.write_table(pa.table(rows), tmp_path / "log.parquet")
    history = read_history(SHOP, tmp_path / "log.parquet", contexts=True)
    assert contexts(history) == [{"age": 31.5}, {}] and rewards(history) == [3.0, 0.0]
    assert [row.known.propensity for row in history.arrivals] == [0.5, 0.25]


LOG = pd.DataFrame(
    {
        "age": [31, 29, 40, 18],
        "country": ["DE", "NA", "São Tomé/1 %", "007"],
        "pays": [True, False, True, False],
        "action": ["1", "007", "NA", "1"],
        "bought": [1, 0, 1, 0],
        "propensity": [0.5, 0.25, 0.25, 0.5],
        "decided_at": [1_795_516_200_000 + 1000 * at for at in range(4)],
    }
)


def partitioned(folder: Path, columns: list[str], kind: str) -> Path:
    """`LOG` as Spark's partitionBy leaves it, with one file for each row."""
    escapes = str.maketrans({"/": "%2F", "%": "%25", " ": "%20"})
    for at, row in LOG.iterrows():
        where = folder
        for name in columns:
            said = str(row[name]).lower() if name == "pays" else str(row[name])
            where = where / f"{name}={said.translate(escapes)}"
        where.mkdir(parents=True, exist_ok=True)
        rest = LOG.loc[[at]].drop(columns=columns)
        if kind == "csv":
            rest.to_csv(where / f"part-{at}.csv", index=False)
        else:
            rest.to_parquet(where / f"part-{at}.snappy.parquet", index=False)
    (folder / "_SUCCESS").touch()
    return folder


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize(
    "columns",
    [["pays"], ["country"], ["action"], ["country", "pays", "age"], ["decided_at", "bought"]],
    ids="-".join,
)
def test_columns_that_stand_in_the_names_of_folders_are_columns(
    tmp_path: Path, columns: list[str], kind: str
) -> None:
    LOG.to_parquet(tmp_path / "log.parquet", index=False)
    whole = read_history(SHOP, tmp_path / "log.parquet", contexts=True)
    folder = partitioned(tmp_path / "parts", columns, kind)
    found = read_history(SHOP, folder, contexts=True)
    assert contexts(found) == contexts(whole)
    assert rewards(found) == rewards(whole)
    np.testing.assert_array_equal(found.ring().observation, whole.ring().observation)
    assert [row.action.tolist() for row in found.arrivals] == [
        row.action.tolist() for row in whole.arrivals
    ]
    assert f"columns that stand in the names of folders: {', '.join(columns)}" in found.notes


def test_a_folder_that_stands_for_null_means_missing(tmp_path: Path) -> None:
    where = tmp_path / "country=__HIVE_DEFAULT_PARTITION__"
    where.mkdir()
    LOG.drop(columns="country").to_parquet(where / "part.parquet")
    found = contexts(read_history(SHOP, tmp_path, contexts=True))
    assert len(found) == 4 and not any("country" in context for context in found)


def test_one_folder_of_a_partitioned_log_still_has_its_column(tmp_path: Path) -> None:
    folder = partitioned(tmp_path, ["country", "pays"], "parquet") / "country=NA"
    (part,) = folder.rglob("*.parquet")
    for named in (folder, part.parent, part):
        (context,) = contexts(read_history(SHOP, named, contexts=True))
        assert context == {"age": 29, "country": "NA", "pays": False}


def test_a_column_of_a_file_is_believed_before_its_folders_name_and_that_is_said(
    tmp_path: Path,
) -> None:
    (tmp_path / "country=XX").mkdir()
    LOG.to_parquet(tmp_path / "country=XX" / "part.parquet")
    history = read_history(SHOP, tmp_path, contexts=True)
    assert [context["country"] for context in contexts(history)] == list(LOG["country"])
    assert any("country stand in files and in the names" in note for note in history.notes)


def test_a_column_of_some_files_of_a_folder_is_not_lost(tmp_path: Path) -> None:
    LOG.loc[[0, 1]].drop(columns=["country"]).to_parquet(tmp_path / "a.parquet")
    LOG.loc[[2]].astype({"age": float}).to_parquet(tmp_path / "b.parquet")
    LOG.loc[[3]].astype({"country": "category"}).to_parquet(tmp_path / "c.parquet")
    found = contexts(read_history(SHOP, tmp_path, contexts=True))
    assert [context.get("country") for context in found] == [None, None, *LOG["country"][2:]]


def test_a_folder_of_csv_files_is_read_as_one_log(tmp_path: Path) -> None:
    LOG.loc[[0, 1]].to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(LOG.loc[[2, 3]].to_csv(index=False).encode()))
    (tmp_path / "c.csv").touch()  # what Spark writes for no rows
    history = read_history(SHOP, tmp_path, contexts=True)
    assert [context["country"] for context in contexts(history)] == list(LOG["country"])


def test_a_folder_without_files_or_with_both_kinds_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(InvalidHistory, match="holds no files: expected Parquet or CSV"):
        read_history(SHOP, tmp_path)
    LOG.to_csv(tmp_path / "a.csv", index=False)
    LOG.to_parquet(tmp_path / "b.parquet")
    with pytest.raises(InvalidHistory, match="holds both CSV and Parquet files"):
        read_history(SHOP, tmp_path)
