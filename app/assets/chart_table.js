// Writes the points of a live plot as a table (components/chart_table.py). The plot is found by its name, because it may be
// drawn later than this component.
const plain = (text) => String(text ?? "").replace(/<sub>(.*?)<\/sub>/g, "($1)").replace(/<br\s*\/?>/g, " ").replace(/<[^>]*>/g, "");
const filled = (value) => value !== null && value !== undefined && value !== "" && !Number.isNaN(value);
const shown = (value) => (typeof value === "number" ? String(Number(value.toPrecision(6))) : plain(value));

// Returns [lower, upper] of an error bar, or null.
function bar(value, error, index) {
  if (!error?.array || error.visible === false || !filled(error.array[index])) return null;
  return [value - (error.arrayminus ?? error.array)[index], value + error.array[index]];
}

// Returns the layout of the axis of a trace, such as "x2" for "xaxis2".
const axisOf = (layout, letter, reference) => layout[(reference ?? letter).replace(letter, `${letter}axis`)] ?? {};

// Returns the title of an axis with its unit; small charts of one figure share the title of their neighbours.
function titleOf(layout, letter, reference) {
  const own = axisOf(layout, letter, reference);
  const all = Object.keys(layout).filter((name) => new RegExp(`^${letter}axis\\d*$`).test(name)).map((name) => layout[name]);
  const title = plain((own.title?.text ? own : all.find((one) => one?.title?.text))?.title?.text);
  const unit = (own.ticksuffix ?? "").trim();
  return title && unit && !title.includes(unit) ? `${title} (${unit})` : title;
}

// Returns the text of a value: the text of its tick if the ticks of the axis have texts.
function written(value, axis) {
  const place = axis.ticktext && axis.tickvals ? [...axis.tickvals].indexOf(value) : -1;
  return place >= 0 ? plain(axis.ticktext[place]) : shown(value);
}

// Returns the name of the small chart in which a trace is drawn: the annotation that stands over its axes.
function chartOf(layout, trace) {
  const x = layout[(trace.xaxis ?? "x").replace("x", "xaxis")]?.domain;
  const y = layout[(trace.yaxis ?? "y").replace("y", "yaxis")]?.domain;
  if (!x || !y) return "";
  const titles = (layout.annotations ?? []).filter((one) => one.xref === "paper" && one.yref === "paper" && !one.showarrow);
  const over = titles.find((one) => Math.abs(one.x - x[0]) < 0.02 && one.y >= y[1] - 0.01 && one.y - y[1] < 0.06);
  return over ? plain(over.text) : "";
}

// Returns the rows of a heat map: one per square.
function squares(trace, add) {
  trace.z.forEach((row, down) => row.forEach((value, across) =>
    filled(value) && add({ x: trace.x?.[across] ?? across, y: trace.y?.[down] ?? down, value })));
}

// Returns the rows of lines, bars and points.
function points(trace, add) {
  const count = Math.max(trace.x?.length ?? 0, trace.y?.length ?? 0);
  for (let at = 0; at < count; at += 1) {
    const x = trace.x?.[at] ?? at, y = trace.y?.[at] ?? at;
    if (!filled(x) || !filled(y)) continue;
    const text = Array.isArray(trace.text) ? trace.text[at] : Array.isArray(trace.hovertext) ? trace.hovertext[at] : "";
    add({ x, y, text, xBar: bar(x, trace.error_x, at), yBar: bar(y, trace.error_y, at) });
  }
}

function rowsOf(plot) {
  const rows = [], layout = plot.layout;
  for (const trace of plot._fullData ?? plot.data) {
    if (trace.visible === false || trace.visible === "legendonly" || trace.hoverinfo === "skip") continue;
    const shared = {
      series: plain(plot.data[trace.index]?.name), chart: chartOf(layout, trace), xAxis: axisOf(layout, "x", trace.xaxis),
      yAxis: axisOf(layout, "y", trace.yaxis), xTitle: titleOf(layout, "x", trace.xaxis), yTitle: titleOf(layout, "y", trace.yaxis),
    };
    (trace.type === "heatmap" ? squares : points)(trace, (row) => rows.push({ ...shared, ...row }));
  }
  return rows;
}

// Returns [title, text of a row] of each column that is not empty. Where the charts of a figure have several vertical axes, a
// column names the quantity of each row.
function columnsOf(rows) {
  const one = (name) => (new Set(rows.map((row) => row[name])).size === 1 ? rows[0][name] : "");
  const interval = (bounds) => (bounds ? `${shown(bounds[0])} to ${shown(bounds[1])}` : "");
  const square = rows.some((row) => filled(row.value));
  const x = one("xTitle") || (square ? "Column" : "Horizontal"), shared = one("yTitle");
  const y = shared || (square ? "Row" : "Value");
  return [
    ["Series", (row) => row.series], ["Chart", (row) => row.chart], ["Quantity", (row) => (shared ? "" : row.yTitle)],
    ["Label", (row) => plain(row.text)], [x, (row) => written(row.x, row.xAxis)], [`Interval of ${x}`, (row) => interval(row.xBar)],
    [y, (row) => written(row.y, row.yAxis)], [`Interval of ${y}`, (row) => interval(row.yBar)],
    ["Value", (row) => (filled(row.value) ? shown(row.value) : "")],
  ].filter(([, text]) => rows.some((row) => text(row) !== ""));
}

// Returns at most `most` rows, evenly chosen, the last among them.
function thinned(rows, most) {
  if (rows.length <= most) return rows;
  return Array.from({ length: most }, (_, at) => rows[Math.round((at * (rows.length - 1)) / (most - 1))]);
}

function write(place, plot, data) {
  const all = rowsOf(plot), rows = thinned(all, data.most), columns = rows.length ? columnsOf(rows) : [];
  const table = document.createElement("table");
  table.className = "rp-table";
  const caption = table.createCaption();
  const number = (count) => count.toLocaleString("en");
  caption.textContent = `${data.label}. ` + (rows.length < all.length
    ? `${number(rows.length)} of ${number(all.length)} points, evenly chosen.` : `${number(all.length)} points.`);
  const head = table.createTHead().insertRow();
  for (const [title] of columns) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = title;
    head.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const [, text] of columns) line.insertCell().textContent = text(row);
  }
  place.replaceChildren(table);
}

export default function ({ data, parentElement }) {
  const details = parentElement.querySelector("details");
  const place = details.querySelector("div");
  place.setAttribute("aria-label", `Data: ${data.label}`);
  details.rampart ??= { plot: null, data };
  const state = details.rampart;
  state.data = data;
  const redraw = () => details.open && state.plot?.isConnected && write(place, state.plot, state.data);
  const attach = (tries) => {
    const plot = [...document.querySelectorAll(".rp-plot")].find((one) => one.dataset.name === data.plot);
    if (!plot?.on) {
      if (tries) setTimeout(() => attach(tries - 1), 150);
      return;
    }
    if (state.plot !== plot) plot.on("plotly_afterplot", redraw);
    state.plot = plot;
    redraw();
  };
  details.ontoggle = () => (details.open ? attach(20) : place.replaceChildren());
}
