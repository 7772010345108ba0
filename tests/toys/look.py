"""Print as JSON what the dashboard of the working folder offers: `python look.py`, run by tests/test_contributing.py."""

from __future__ import annotations

import json
from pathlib import Path

from streamlit.testing.v1 import AppTest


def page(name: str, **query: str) -> AppTest:
    """Open a page with this query."""
    test = AppTest.from_file(str(Path.cwd() / "app" / "main.py"), default_timeout=60).run()
    for key, value in query.items():
        test.query_params[key] = value
    shown = test.switch_page(f"views/{name}.py").run()
    assert not shown.exception, shown.exception
    return shown


def offered(test: AppTest, field: str) -> list[str]:
    """Return the options of the form's field. A search for the field unfolds its form."""
    test.text_input(key="launch.find").set_value(field.strip(".").replace("_", " ")).run()
    return next(list(box.options) for box in test.multiselect if str(box.key).endswith(field))


search, retrain = page("launch"), page("launch", kind="retrain")
retrain.button_group(key="launch.source").set_value("named").run()
seen = {
    "method": list(search.selectbox(key="launch.method").options),
    "dataset": list(search.selectbox(key="launch.dataset").options),
    "objective": offered(search, ".added_objectives"),
    "attack": offered(page("launch", kind="attack"), ".attacks"),
    "network": list(retrain.selectbox(key="launch.network").options),
    "page": [element.proto.body for element in page("toy").get("html")] + [str(one.value) for one in page("toy").get("markdown")],
}
print(json.dumps(seen))
