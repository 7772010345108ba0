// Appends new log lines, and scrolls to the newest line unless the reader has scrolled up (components/log_tail.py). Two buttons
// choose whether long lines are wrapped, which the browser remembers, and copy the lines.
const WRAP = "rampart-log-wrap"; // in the browser's storage: "no" if long lines are not wrapped

export default function ({ data, parentElement }) {
  const node = parentElement.querySelector(".rp-log");
  if (node.__text === undefined) prepare(parentElement, node);
  if (node.__text === data.text) return;
  const first = node.__text === undefined;
  const atEnd = first || node.scrollHeight - node.scrollTop - node.clientHeight < 24;
  if (!first && data.text.startsWith(node.__text)) node.append(data.text.slice(node.__text.length));
  else node.textContent = data.text;
  node.__text = data.text;
  if (atEnd) node.scrollTop = node.scrollHeight;
}

function prepare(parent, node) {
  const wrap = parent.querySelector("[data-act=wrap]");
  const copy = parent.querySelector("[data-act=copy]");
  const show = (wrapped) => {
    node.classList.toggle("rp-nowrap", !wrapped);
    wrap.setAttribute("aria-pressed", String(wrapped));
  };
  show(localStorage.getItem(WRAP) !== "no");
  wrap.onclick = () => {
    const wrapped = node.classList.contains("rp-nowrap");
    localStorage.setItem(WRAP, wrapped ? "yes" : "no");
    show(wrapped);
  };
  copy.onclick = async () => {
    let done = "Copied";
    try {
      await navigator.clipboard.writeText(node.textContent);
    } catch {
      getSelection().selectAllChildren(node); // without the right to write, the reader presses Ctrl+C
      done = "Press Ctrl+C";
    }
    copy.textContent = done;
    setTimeout(() => { copy.textContent = "Copy"; }, 2000);
  };
}
