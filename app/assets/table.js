// Draws a table whose rows have ids, and redraws only the rows that change (components/table.py).
export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const host = parentElement.querySelector(".rp-data");
  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined && text !== null) node.textContent = text;
    return node;
  };
  host.rampart ??= { sort: null, falling: false, drawn: new Map(), head: "", marked: new Set(), sent: data.seen || 0 };
  const state = host.rampart;
  // Keep ticks that the page has not answered yet, so that quick clicks do not flicker.
  if (data.selectable && (data.seen || 0) >= state.sent)
    state.marked = new Set(data.rows.filter((row) => row.picked).map((row) => row.id));
  state.send = { setTriggerValue };
  state.data = data;
  // The page may fix the order ("key", or "-key" for the largest first). A click shows the new order before the page has answered.
  if (typeof data.sort === "string" && data.sort !== state.order) {
    state.order = data.sort;
    const key = data.sort.replace(/^-/, "");
    state.sort = data.columns.some((column) => column.key === key) ? key : null;
    state.falling = state.sort !== null && data.sort.startsWith("-");
  }
  const sendMarks = () => {
    draw();
    state.send.setTriggerValue("picks", { number: ++state.sent, ids: [...state.marked] });
  };
  const ids = () => state.data.rows.filter((row) => row.picked !== undefined).map((row) => row.id);
  const mark = (id, on) => (on ? state.marked.add(id) : state.marked.delete(id));
  // With Shift, all rows from the last one that was ticked become like this one.
  const tick = (id, on, range) => {
    const shown = ids(),
      [from, to] = [shown.indexOf(range ? (state.anchor ?? id) : id), shown.indexOf(id)].sort((a, b) => a - b);
    for (const one of shown.slice(from < 0 ? to : from, to + 1)) mark(one, on);
    state.anchor = id;
    sendMarks();
  };

  const age = (since) => {
    const s = Math.max(0, Date.now() / 1000 - since);
    return s < 60
      ? "under 1 min"
      : s < 3600
        ? `${Math.floor(s / 60)} min`
        : s < 86400
          ? `${Math.floor(s / 3600)} h`
          : `${Math.floor(s / 86400)} d`;
  };
  const cellNode = (column, cell) => {
    const td = make("td", column.align === "right" ? "rp-right" : "");
    if (cell.tone) {
      const chip = make("span", `rp-chip rp-tone-${cell.tone}`);
      if (cell.glyph) {
        const g = make("span", "rp-glyph", cell.glyph);
        g.setAttribute("aria-hidden", "true");
        chip.append(g);
      }
      chip.append(make("span", "", cell.text));
      td.append(chip);
    } else if (cell.href) {
      const link = make("a", "rp-data-link", cell.text);
      link.href = cell.href;
      link.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
        event.preventDefault();
        event.stopPropagation();
        state.send.setTriggerValue("opened", td.parentElement.dataset.id);
      });
      td.append(link);
    } else if (cell.fraction !== null && cell.fraction !== undefined) {
      const track = make("div", "rp-track"),
        fill = make("div", `rp-fill${cell.fill ? ` rp-${cell.fill}` : ""}`);
      fill.style.width = `${(100 * cell.fraction).toFixed(1)}%`;
      track.append(fill);
      td.append(make("span", "rp-num", cell.text), track);
    } else if (cell.since) {
      const span = make("span", "rp-num", age(cell.since));
      span.dataset.since = cell.since;
      td.append(span);
    } else td.append(make("span", `rp-num${cell.muted ? " rp-muted" : ""}`, cell.text));
    if (cell.sub) td.append(make("span", "rp-sub rp-num", cell.sub));
    if (cell.hint) td.title = cell.hint;
    return td;
  };
  const pickNode = (row) => {
    const td = make("td", "rp-pick");
    if (row.picked === undefined) return td;
    const box = make("input");
    box.type = "checkbox";
    box.checked = row.picked;
    box.setAttribute("aria-label", `${state.data.selectable ? "Select" : "Compare"} ${row.name}`);
    box.addEventListener("click", (event) => {
      event.stopPropagation();
      if (state.data.selectable) tick(row.id, box.checked, event.shiftKey);
    });
    if (!state.data.selectable) box.addEventListener("change", () => state.send.setTriggerValue("picked", row.id));
    td.append(box);
    return td;
  };
  const foldNode = (row) => {
    const button = make("button", "rp-fold", row.folded ? "▶" : "▼");
    button.setAttribute("aria-expanded", String(!row.folded));
    button.setAttribute("aria-label", row.name);
    return button;
  };
  const rowNode = (row, columns) => {
    const tr = make("tr", row.heading ? "rp-heading" : row.group ? "rp-member" : "");
    const choose = () => {
      if (!state.data.selectable || row.heading) return state.send.setTriggerValue(row.heading ? "folded" : "clicked", row.id);
      const only = state.marked.size === 1 && state.marked.has(row.id);
      state.marked.clear();
      tick(row.id, !only, false);
    };
    tr.dataset.id = row.id;
    if (!row.heading) tr.tabIndex = 0;
    const only = row.heading && Object.keys(row.cells).length === 1; // a heading with one text takes the whole width
    for (const column of only ? columns.slice(0, 1) : columns) tr.append(cellNode(column, row.cells[column.key] || { text: "" }));
    if (only) tr.firstElementChild.colSpan = columns.length;
    if (row.heading) tr.firstElementChild.prepend(foldNode(row));
    if (state.picks) tr.prepend(pickNode(row));
    tr.addEventListener("click", choose);
    tr.addEventListener("keydown", (event) => {
      if (event.target !== tr) return;
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        if (!state.data.selectable || row.heading) choose();
        else if (event.key === "Enter") state.send.setTriggerValue("opened", row.id);
        else tick(row.id, !state.marked.has(row.id), false);
      }
      const next = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
      const other = next && tr[next];
      if (other) {
        event.preventDefault();
        other.focus();
      }
    });
    return tr;
  };
  const sorted = (rows) => {
    if (state.sort === null) return rows;
    const key = state.sort,
      sign = state.falling ? -1 : 1;
    const value = (row) => {
      const c = row.cells[key] || {};
      return c.sort === null || c.sort === undefined ? c.text : c.sort;
    };
    const missing = (v) => v === "" || v === null || v === undefined || v === -1e300;
    return [...rows].sort((a, b) => {
      const x = value(a),
        y = value(b);
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
    });
  };
  // The rows of a group stay below its heading. A folded group shows its heading only.
  const order = (rows) => {
    if (state.data.presorted) {
      const folded = new Set(rows.filter((row) => row.folded).map((row) => row.id));
      return rows.filter((row) => !folded.has(row.group));
    }
    const members = (heading) => (heading.folded ? [] : sorted(rows.filter((row) => row.group === heading.id)));
    return sorted(rows.filter((row) => !row.group)).flatMap((row) => (row.heading ? [row, ...members(row)] : [row]));
  };
  const allNode = () => {
    const th = make("th", "rp-pick"),
      box = make("input");
    box.type = "checkbox";
    box.setAttribute("aria-label", "Select all rows of this page");
    box.addEventListener("change", () => {
      for (const id of ids()) mark(id, box.checked);
      sendMarks();
    });
    th.append(box);
    return th;
  };
  const showMarks = () => {
    for (const [id, { node }] of state.drawn) {
      const box = node.querySelector(".rp-pick input");
      if (box) box.checked = state.marked.has(id);
      node.setAttribute("aria-selected", String(state.marked.has(id)));
    }
    const all = host.querySelector("th.rp-pick input"),
      known = ids();
    if (!all) return;
    all.checked = known.length > 0 && known.every((id) => state.marked.has(id));
    all.indeterminate = !all.checked && known.some((id) => state.marked.has(id));
  };
  const draw = () => {
    const { columns, rows, selected, label } = state.data;
    state.picks = rows.some((row) => row.picked !== undefined);
    const head = JSON.stringify([columns, label, state.sort, state.falling, state.picks]);
    let table = host.querySelector("table");
    if (!table) {
      table = make("table", "rp-table rp-rows");
      table.append(make("thead"), make("tbody"));
      host.append(table);
    }
    const body = table.tBodies[0];
    if (head !== state.head) {
      state.head = head;
      table.setAttribute("aria-label", label);
      const tr = make("tr");
      if (state.picks) tr.append(state.data.selectable ? allNode() : make("th", "rp-pick", "Compare"));
      for (const column of columns) {
        const th = make("th", column.align === "right" ? "rp-right" : "");
        const button = make("button", "rp-sort", column.label + (state.sort === column.key ? (state.falling ? " ↓" : " ↑") : ""));
        if (column.help) button.title = column.help;
        th.setAttribute("aria-sort", state.sort !== column.key ? "none" : state.falling ? "descending" : "ascending");
        button.addEventListener("click", () => {
          if (state.sort !== column.key) {
            state.sort = column.key;
            state.falling = column.align === "right";
          } else if (state.falling === (column.align === "right")) state.falling = !state.falling;
          else state.sort = null;
          draw();
          if (typeof state.data.sort === "string")
            state.send.setTriggerValue("sort", state.sort === null ? "unsorted" : (state.falling ? "-" : "") + state.sort);
        });
        th.append(button);
        tr.append(th);
      }
      table.tHead.replaceChildren(tr);
    }
    const shape = JSON.stringify([columns, state.picks]),
      seen = new Set();
    let place = body.firstElementChild;
    for (const row of order(rows)) {
      const text = shape + JSON.stringify(row);
      let old = state.drawn.get(row.id);
      if (!old || old.text !== text) {
        const node = rowNode(row, columns),
          focused = old && old.node.contains(document.activeElement) && document.activeElement.localName;
        if (old) {
          if (place === old.node) place = node;
          old.node.replaceWith(node);
        }
        old = { node, text };
        state.drawn.set(row.id, old);
        if (focused) (focused === "tr" ? node : node.querySelector(focused) || node).focus();
      }
      seen.add(row.id);
      if (old.node === place) place = place.nextElementSibling;
      else body.insertBefore(old.node, place);
      if (state.data.selectable) continue;
      const chosen = row.id === selected ? "true" : "false";
      if (old.node.getAttribute("aria-selected") !== chosen) old.node.setAttribute("aria-selected", chosen);
    }
    for (const [id, old] of state.drawn)
      if (!seen.has(id)) {
        old.node.remove();
        state.drawn.delete(id);
      }
    if (state.data.selectable) showMarks();
  };
  draw();
  // The browser updates ages itself. It changes a node only if its text changes.
  if (!state.timer)
    state.timer = setInterval(() => {
      if (!host.isConnected) {
        clearInterval(state.timer);
        state.timer = null;
        return;
      }
      for (const span of host.querySelectorAll("[data-since]")) {
        const text = age(Number(span.dataset.since));
        if (span.textContent !== text) span.textContent = text;
      }
    }, 5000);
}
