// Moves the lines of a drawn Plotly chart to new points (live_plot.js). Plotly would compute and draw the whole chart again, which
// takes ten times as long for the many small charts of a river (charts/river.py).

// Moves the lines of a node from the figure that Plotly has drawn to another figure, and writes the new numbers of its notes.
// Returns false, and changes nothing, if the figures differ in more than that.
function moveLines(node, drawn, figure) {
  const notes = changedNotes(drawn.layout, figure.layout);
  const traces = notes && changedTraces(drawn, figure);
  if (!traces) return false;
  const elements = [...node.querySelectorAll(".scatterlayer .trace")];
  const lines = traces.map((number) => {
    const element = elements.find((one) => one.__data__?.[0]?.trace?.index === number);
    return { number, paths: [...(element?.querySelectorAll(".js-line") ?? [])], courses: pathsOf(node, figure.data[number]) };
  });
  const texts = notes.map((number) => node.querySelector(`.annotation[data-index="${number}"] .line:last-child`));
  if (texts.includes(null) || lines.some(({ paths, courses }) => paths.length !== courses.length)) return false;
  for (const { number, paths, courses } of lines) {
    paths.forEach((path, place) => path.setAttribute("d", courses[place]));
    const { x, y } = figure.data[number]; // what downloads and the table of the points read
    for (const trace of [node.data[number], node._fullData[number]]) Object.assign(trace, { x, y });
  }
  notes.forEach((number, place) => {
    const { text } = figure.layout.annotations[number];
    texts[place].textContent = lastLine(text)[1];
    node.layout.annotations[number].text = text;
  });
  return true;
}

// Returns the numbers of the notes whose last line has changed, or undefined if anything else in the layouts differs.
function changedNotes(before, after) {
  const [old, now] = [before.annotations ?? [], after.annotations ?? []];
  const firstLines = (notes) => notes.map((note) => ({ ...note, text: lastLine(note.text)[0] }));
  const rest = (layout, notes) => JSON.stringify({ ...layout, annotations: firstLines(notes) });
  if (rest(before, old) !== rest(after, now)) return undefined;
  const changed = [...now.keys()].filter((number) => old[number].text !== now[number].text);
  return changed.some((number) => /[<&]/.test(lastLine(now[number].text)[1])) ? undefined : changed;
}

// Returns a text up to its last line break, and its last line.
function lastLine(text) {
  const end = text.lastIndexOf("<br>");
  return end < 0 ? [text, ""] : [text.slice(0, end), text.slice(end + 4)];
}

// Returns the numbers of the traces whose points have changed, or undefined if anything but lines has changed, or an axis would.
function changedTraces(before, after) {
  if (before.data.length !== after.data.length || String(extents(before)) !== String(extents(after))) return undefined;
  const changed = [];
  for (const [number, trace] of after.data.entries()) {
    const old = before.data[number];
    const names = Object.keys({ ...old, ...trace }).filter((name) => old[name] !== trace[name]);
    if (!names.length) continue;
    const isLine = trace.type === "scatter" && trace.mode === "lines" && !trace.stackgroup && !trace.fill;
    const fixed = after.layout[`yaxis${(trace.yaxis ?? "y").slice(1)}`]?.range;
    if (!isLine || !fixed || names.some((name) => name !== "x" && name !== "y")) return undefined;
    changed.push(number);
  }
  return changed;
}

// Returns the first and the last x of all traces, for each group of horizontal axes that have the same range.
function extents({ data, layout }) {
  const found = {};
  for (const { x = [], xaxis = "x" } of data) {
    const group = layout[`xaxis${xaxis.slice(1)}`]?.matches ?? xaxis;
    const ends = (found[group] ??= [Infinity, -Infinity]);
    for (const value of x) if (value !== null) [ends[0], ends[1]] = [Math.min(ends[0], value), Math.max(ends[1], value)];
  }
  return Object.entries(found);
}

// Returns the paths of the lines of a trace, in pixels of its plot. Points without a value separate lines.
function pathsOf(node, { x, y, xaxis = "x", yaxis = "y" }) {
  const [across, up] = [node._fullLayout[`xaxis${xaxis.slice(1)}`], node._fullLayout[`yaxis${yaxis.slice(1)}`]];
  const paths = [];
  let points = [];
  for (let place = 0; place <= x.length; place++) {
    if (x[place] == null || y[place] == null) {
      if (points.length > 1) paths.push(`M${points.join("L")}`);
      points = [];
    } else points.push(`${across.d2p(x[place]).toFixed(2)},${up.d2p(y[place]).toFixed(2)}`);
  }
  return paths;
}
