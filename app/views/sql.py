"""The SQL page. It runs the reader's queries on the run log, without changing it, and describes its tables beside the editor."""

from __future__ import annotations

from functools import partial

import streamlit as st

from app import address
from app.components.downloads import menu_html
from app.components.html_table import Markup, StaticColumn, code, html_table
from app.components.states import empty_state, heading, problem, section
from app.downloads import File
from app.formats import escape
from app.sql import console
from engine.errors import RunLogError
from engine.log.schema import EVENT
from engine.log.schema_docs import ColumnDoc, TableDoc, tables
from engine.log.sql import LONGEST, MEGABYTES, ROWS, SECONDS, Answer
from engine.log.sql_examples import EXAMPLES
from engine.report.frames import MIMES
from engine.report.records import csv_of

TEXT, RESULT = "sql.text", "sql.result"
HEIGHT = 300  # of the editor and of the list of columns beside it, in pixels


def asked() -> str:
    """Return the query in the page's address, or "" if there is none."""
    return st.query_params.get("sql", "")


def take(sql: str) -> None:
    """Put a query into the editor and into the page's address, and discard the earlier result. The page then runs the query."""
    st.session_state[TEXT] = sql
    address.choose(sql=sql[:LONGEST + 1].strip())
    st.session_state.pop(RESULT, None)


def editor() -> None:
    """Show the examples, the editor and the button that runs the query."""
    st.caption("Examples")
    with st.container(horizontal=True, gap="small", key="rp-sqlexamples"):
        for title, sql in EXAMPLES.items():
            st.button(title, key=f"sql.example.{title}", on_click=take, args=(sql,))
    st.session_state.setdefault(TEXT, asked() or next(iter(EXAMPLES.values())))
    with st.form("sql.form", border=False):
        st.text_area("Query", key=TEXT, height=HEIGHT, persist_state="session",
                     help=f"One query in DuckDB's SQL, of at most {LONGEST:,} characters. It reads a copy of the run log and can "
                          f"change nothing. Limits: {ROWS:,} rows, {SECONDS:g} s, {MEGABYTES} MB of memory. Ctrl+Enter runs it.")
        st.form_submit_button("Run", type="primary", icon=":material/play_arrow:", key="sql.run",
                              on_click=lambda: take(st.session_state[TEXT]))


def schema() -> None:
    """Show a selector of the tables of the run log, and the meaning of the columns of the selected table."""
    known = {table.name: table for table in tables()}
    name = address.selectbox(st.container(), "Table", {name: name for name in known}, name="table", key="sql.table",
                             help="The tables that a query can read. All of them are joined by the column number.")
    chosen = known[name]
    st.caption(chosen.meaning)
    with st.container(height=HEIGHT + 40):
        st.html(html_table(COLUMNS, columns_of(chosen), label=f"Columns of {name}", look="rp-wrap"))


def columns_of(table: TableDoc) -> list[ColumnDoc]:
    """Return the columns of a table. The columns that all tables of events have in common come last."""
    return sorted(table.columns, key=lambda column: column.name in EVENT and table.name != "folder")


COLUMNS = (
    StaticColumn[ColumnDoc]("Column", lambda column: Markup(f"{code(column.name)}<br><span class='rp-label'>"
                                                            f"{escape(column.type.lower())}</span>"), names_row=True),
    StaticColumn[ColumnDoc]("Meaning", lambda column: column.meaning))


def result() -> None:
    """Run the query in the page's address, unless its result is known already, and show the result."""
    sql = asked()
    if not sql:
        empty_state("No query yet", "Choose an example, or write a query and press Run. The address keeps it, so that a copied "
                                    "address shows the same table.")
        return
    known = st.session_state.get(RESULT)
    if known is None or known[0] != sql:
        with st.spinner("Running the query", show_time=True):
            known = st.session_state[RESULT] = (sql, answered(sql))
    if isinstance(known[1], str):
        problem(known[1], link=None)
    else:
        show(known[1])


def answered(sql: str) -> Answer | str:
    """Return the result of a query, or the sentence that says why there is none."""
    try:
        return console().ask(sql)
    except RunLogError as refusal:
        return str(refusal)


def show(answer: Answer) -> None:
    """Show the rows of a result and the buttons that download them."""
    count = answer.table.num_rows
    words = f"{count:,} row{'' if count == 1 else 's'} in {answer.seconds:.2f} s"
    section("Result", f"the first {words}; the query has more rows, so add a condition" if answer.cut else words)
    st.dataframe(answer.table.to_pandas(), hide_index=True, width="stretch", height="content" if count < 12 else 460)
    files = [File("CSV", "query.csv", "text/csv", partial(csv_of, answer.table),
                  "The rows above. A text that a spreadsheet could run as a formula has an apostrophe in front."),
             File("Parquet", "query.parquet", MIMES["parquet"], lambda: answer.parquet, "The rows above with their types.")]
    st.html(menu_html(files, key="sql.result"))


heading("SQL", "Ask the run log anything. Queries read a copy of it and can change nothing.")
left, right = st.columns([3, 2], gap="large")
with left:
    editor()
with right:
    schema()
result()
