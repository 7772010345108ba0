// Plays the genotypes of a search epoch by epoch (components/time_machine.py). All pictures are here, so playing needs no server.
// Edges that change glide, and cells can be zoomed, moved and saved (cells.js).
const STEP_MS = 700; // time of an epoch while it plays

export default function ({ data, parentElement, setTriggerValue }) {
  const node = parentElement.querySelector(".rp-machine");
  const machine = (node.rampart ??= make(node));
  document.addEventListener("keydown", machine.keys);
  machine.send = (epoch) => setTriggerValue("chosen", epoch);
  const followed = !machine.epochs || machine.place === machine.epochs.length - 1; // at its end, it follows the search
  const elsewhere = machine.run !== data.run || machine.held !== data.held;
  Object.assign(machine, { run: data.run, held: data.held, frames: data.frames, epochs: data.epochs });
  machine.range.max = data.epochs.length - 1;
  const held = data.epochs.findIndex((one) => one.epoch === data.held);
  const newest = data.epochs.length - 1;
  if (machine.timer) show(machine, Math.min(machine.place, newest));
  else show(machine, elsewhere ? (held < 0 ? newest : held) : followed ? newest : Math.min(machine.place, newest));
  return () => {
    stop(machine);
    document.removeEventListener("keydown", machine.keys);
  };
}

// Builds the controls once, and returns the state of the machine.
function make(node) {
  node.innerHTML = `<div class="rp-machinebar"><button type="button" class="rp-machineplay"></button>
    <button type="button" data-by="-1" aria-label="Earlier epoch">‹</button><input type="range" min="0" step="1" aria-label="Epoch">
    <button type="button" data-by="1" aria-label="Later epoch">›</button><output></output></div><div class="rp-machineframe"></div>`;
  const machine = { play: node.querySelector(".rp-machineplay"), range: node.querySelector("input"),
    words: node.querySelector("output"), frame: node.querySelector(".rp-machineframe"), timer: 0, place: 0 };
  machine.play.addEventListener("click", () => (machine.timer ? stop(machine, true) : start(machine)));
  machine.range.addEventListener("input", () => move(machine, Number(machine.range.value), false));
  machine.range.addEventListener("change", () => tell(machine));
  for (const button of node.querySelectorAll("[data-by]"))
    button.addEventListener("click", () => move(machine, machine.place + Number(button.dataset.by), true));
  machine.keys = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input:not([type=range]), textarea, select")) return;
    const by = { h: -1, l: 1 }[event.key.toLowerCase()];
    if (by && machine.frame.isConnected) move(machine, machine.place + by, true);
  };
  idle(machine);
  return machine;
}

// Plays on from the shown epoch, or from the first one if the newest is shown.
function start(machine) {
  if (machine.place === machine.epochs.length - 1) show(machine, 0);
  machine.play.textContent = "Pause";
  machine.timer = setInterval(() => {
    if (machine.place < machine.epochs.length - 1) show(machine, machine.place + 1);
    if (machine.place === machine.epochs.length - 1) stop(machine, true);
  }, STEP_MS);
}

function stop(machine, tells = false) {
  clearInterval(machine.timer);
  machine.timer = 0;
  idle(machine);
  if (tells) tell(machine);
}

const idle = (machine) => (machine.play.textContent = "Play");

function move(machine, place, tells) {
  if (machine.timer) stop(machine);
  show(machine, Math.max(0, Math.min(place, machine.epochs.length - 1)));
  if (tells) tell(machine);
}

// Tells the page which epoch the reader has chosen; null for the newest one.
function tell(machine) {
  const newest = machine.place === machine.epochs.length - 1;
  machine.held = newest ? null : machine.epochs[machine.place].epoch;
  machine.send({ epoch: machine.held });
}

function show(machine, place) {
  const { frame, words, epoch } = machine.epochs[place];
  machine.place = place;
  machine.range.value = place;
  machine.range.setAttribute("aria-valuetext", `epoch ${epoch}`);
  machine.words.textContent = words;
  if (machine.frame.__html === machine.frames[frame]) return;
  machine.frame.__html = machine.frames[frame];
  redraw(machine.frame, machine.frames[frame]);
}
