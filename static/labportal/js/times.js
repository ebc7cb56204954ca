// Times that go on by themselves, in the words the server uses (labportal/templatetags/portal.py).

const root = document.documentElement.dataset;
const units = (root.wordsUnits ?? "s min h d").split(" ");
const absolute = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "long", timeStyle: "medium" });
const time = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} ${units[0]}`;
  if (whole < 3600) return `${Math.floor(whole / 60)} ${units[1]}`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} ${units[2]}`;
  return `${Math.floor(whole / 86400)} ${units[3]}`;
}

export function showTime(element) {
  const moment = new Date(element.dateTime);
  const words = span((Date.now() - moment) / 1000);
  if (element.dataset.ago !== undefined) element.textContent = root.wordsAgo.replace("%s", words);
  else if (element.dataset.elapsed !== undefined) element.textContent = words;
  else if (element.dataset.clock !== undefined) element.textContent = time.format(moment);
  element.title = absolute.format(moment);
}

function show(element) {
  for (const found of element.querySelectorAll("time[data-ago], time[data-elapsed], time[data-clock]")) showTime(found);
}

export function startTimes() {
  show(document);
  setInterval(() => show(document), 1000);
  document.addEventListener("htmx:afterSettle", (event) => show(event.target));
}
