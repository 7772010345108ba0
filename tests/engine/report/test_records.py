"""CSV, Parquet and JSON: reading back gives every figure again, bit for bit."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.architecture.genotype import Genotype
from engine.attack.badge import Badge
from engine.attack.statistics import Comparison, PairedCounts
from engine.report.latency import Latency
from engine.report.records import MEAN, NETWORK, records, to_csv, to_json, to_parquet
from engine.report.robustness import Distinctions, Measurement, NetworkRow, ResultColumn, RobustnessTable, SeedGroup
from tests.engine.report.made_tables import NASTY, distinguished, made_table


def parsed(text: str, kind: pa.DataType) -> Any:
    """Return a cell of a CSV file as a value of its type, by the rules that the documentation names."""
    if text == "":
        return None
    if pa.types.is_string(kind):
        return text.removeprefix("'")
    return float(text) if pa.types.is_floating(kind) else json.loads(text)


ADDED = ("distinct", "sentence", "first_run", "second_run")  # to the fields of a comparison


def rebuilt(content: dict[str, Any]) -> tuple[RobustnessTable, list[Distinctions]]:
    """Return the table and the comparisons that an exported JSON describes."""
    groups = []
    for group in content["groups"]:
        rows = [NetworkRow(**one | {
            "genotype": Genotype.from_dict(one["genotype"]) if one["genotype"] else None,
            "badge": Badge(one["badge"]["colour"], tuple(one["badge"]["reasons"])),
            "results": {name: Measurement(**result) for name, result in one["results"].items()},
            "latencies": {latency["batch"]: Latency(**latency) for latency in one["latencies"]}}) for one in group["rows"]]
        groups.append(SeedGroup(group["title"], tuple(rows), group["complete"], group["means"], group["spreads"]))
    protocol = content["protocol"]
    table = RobustnessTable(protocol["hash"], protocol["title"], protocol["dataset"], protocol["fields"],
                            tuple(ResultColumn(**column) for column in content["columns"]), tuple(groups))
    compared = []
    for one in content["comparisons"]:
        pairs = [{name: value for name, value in pair.items() if name not in ADDED} for pair in one["pairs"]]
        comparisons = tuple(Comparison(**pair | {"counts": PairedCounts(**pair["counts"])}) for pair in pairs)
        compared.append(Distinctions(one["column"], one["images"], comparisons, one["letters"]))
    return table, compared


def test_json_describes_the_whole_table() -> None:
    """The table and its comparisons can be rebuilt from the JSON, equal in every field."""
    table, compared = made_table(), [distinguished(made_table())]
    content = json.loads(to_json(table, compared, 7))
    assert rebuilt(content) == (table, compared) and content["test_openings"] == 7


def test_parquet_gives_the_records_back() -> None:
    """Records and types survive Parquet."""
    table, compared = made_table(), [distinguished(made_table())]
    back = pq.read_table(io.BytesIO(to_parquet(table, compared, 7)))
    assert back.equals(records(table, compared, 7))


def test_csv_gives_the_records_back() -> None:
    """Every cell of the CSV, read by its type, is the record's value; an empty text reads as unknown."""
    table, compared = made_table(), [distinguished(made_table())]
    expected = records(table, compared, 7)
    lines = list(csv.DictReader(io.StringIO(to_csv(table, compared, 7).decode(), newline="")))
    back = [{name: parsed(text, expected.schema.field(name).type) for name, text in line.items()} for line in lines]
    assert back == [{name: value if value != "" else None for name, value in line.items()} for line in expected.to_pylist()]


def test_no_cell_of_a_csv_is_a_formula() -> None:
    """No cell begins with a character that makes a spreadsheet compute it, although titles do."""
    cells = [cell for line in csv.reader(io.StringIO(to_csv(made_table(), [], 1).decode(), newline="")) for cell in line]
    assert any(title[0] in "=+-@" for title in NASTY)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


def test_records_have_the_rows_of_the_table_in_order() -> None:
    """One record per network in the table's order, and the mean of a group right behind its networks."""
    table = made_table()
    lines = records(table, [], 1).to_pylist()
    assert [line["run"] for line in lines if line["row"] == NETWORK] == [row.run for row in table.rows]
    assert [line["row"] for line in lines[-4:]] == [NETWORK, NETWORK, NETWORK, MEAN]
    assert lines[-1]["worst-case_accuracy"] == 0.51 and lines[-1]["worst-case_spread"] == 0.01 and lines[-1]["run"] is None
    assert json.loads(lines[0]["protocol_fields"]) == table.fields


def test_a_table_without_networks_has_no_record() -> None:
    """An empty table is exported as an empty one."""
    table = RobustnessTable("0", "t", "digits", {}, (), ())
    assert records(table, [], 0).num_rows == 0 and to_csv(table, [], 0).count(b"\n") == 1
