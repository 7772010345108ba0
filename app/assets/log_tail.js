// Appends new log lines, and scrolls to the newest line unless the reader has scrolled up (components/log_tail.py).
export default function ({ data, parentElement }) {
  const node = parentElement.querySelector(".rp-log");
  if (node.__text === data.text) return;
  const first = node.__text === undefined;
  const atEnd = first || node.scrollHeight - node.scrollTop - node.clientHeight < 24;
  if (!first && data.text.startsWith(node.__text)) node.append(data.text.slice(node.__text.length));
  else node.textContent = data.text;
  node.__text = data.text;
  if (atEnd) node.scrollTop = node.scrollHeight;
}
