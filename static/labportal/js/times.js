// Times that go on by themselves, in the words the server uses (labportal/templatetags/portal.py).

const root = document.documentElement.dataset;
const units = (root.wordsUnits ?? "s min h d").split(" ");
const language = document.documentElement.lang === "en" ? "en-GB" : document.documentElement.lang;
const timeZone = known(root.zone); // the person's choice; otherwise that of this browser
const absolute = new Intl.DateTimeFormat(language, { dateStyle: "long", timeStyle: "medium", timeZone });
const moments = new Intl.DateTimeFormat(language, { weekday: "long", day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone });
const time = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium", timeZone });

// A browser may be older than a zone's name.
function known(zone) {
  try {
    return zone && new Intl.DateTimeFormat("en", { timeZone: zone }).resolvedOptions().timeZone;
  } catch {
    return undefined;
  }
}

export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} ${units[0]}`;
  if (whole < 3600) return `${Math.floor(whole / 60)} ${units[1]}`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} ${units[2]}`;
  return `${Math.floor(whole / 86400)} ${units[3]}`;
}

// Whether the person's clock differs from the one the server wrote the time by.
function elsewhere(text, moment) {
  if (timeZone) return false; // both go by the person's choice
  const [, sign, hours, minutes] = text.match(/([+-])(\d\d):(\d\d)$/) ?? [null, "+", 0, 0];
  return (sign === "-" ? 1 : -1) * (60 * hours + Number(minutes)) !== moment.getTimezoneOffset();
}

export function showTime(element) {
  const moment = new Date(element.dateTime);
  const words = span((Date.now() - moment) / 1000);
  if (element.dataset.ago !== undefined) element.textContent = root.wordsAgo.replace("%s", words);
  else if (element.dataset.elapsed !== undefined) element.textContent = words;
  else if (element.dataset.left !== undefined) element.textContent = moment - Date.now() < 1000 ? root.wordsLate : root.wordsLeft.replace("%s", span((moment - Date.now()) / 1000));
  else if (element.dataset.clock !== undefined) element.textContent = time.format(moment);
  else if (element.dataset.moment !== undefined && elsewhere(element.dateTime, moment)) element.textContent = moments.format(moment);
  element.title = absolute.format(moment);
}

export function showTimes(element) {
  for (const found of element.querySelectorAll("time[data-ago], time[data-elapsed], time[data-left], time[data-clock], time[data-moment]")) showTime(found);
}

export function startTimes() {
  showTimes(document);
  setInterval(() => showTimes(document), 1000);
  document.addEventListener("htmx:afterSettle", (event) => showTimes(event.target));
}
