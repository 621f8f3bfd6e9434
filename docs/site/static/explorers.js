// Explorers without a kernel. The page holds their data as JSON (otr_paper/site/explorers.py); nothing is fetched.
"use strict";

const data = JSON.parse(document.getElementById("explorer-data").textContent);
const [BLUE, ORANGE, GREEN, GREY, INK] = ["#0072b2", "#b84c00", "#007a5a", "#595959", "#1a1a1a"];
const LEVELS = { "token × layer": BLUE, operator: ORANGE, tile: GREEN, element: "#a8437f", step: GREY, "one step": INK };

// Numbers as people write them: four digits at most, thousands parted.
function number(value) {
  if (!Number.isFinite(value)) return "none";
  if (value !== 0 && (Math.abs(value) >= 1e7 || Math.abs(value) < 1e-3)) return value.toExponential(2);
  return value.toLocaleString("en", { maximumSignificantDigits: value >= 1e4 ? 7 : 4 });
}

function svg(width, height, label, parts) {
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${label}">${parts.join("")}</svg>`;
}
const text = (x, y, words, anchor = "start", more = "") => `<text x="${x}" y="${y}" text-anchor="${anchor}" ${more}>${words}</text>`;
const line = (x1, y1, x2, y2, colour, more = "") => `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="${colour}" ${more}/>`;
const bar = (x, y, width, height, colour) => `<rect x="${x}" y="${y}" width="${Math.max(width, 2)}" height="${height}" fill="${colour}"/>`;

// A logarithmic axis: value -> place, and its marks at powers of ten.
function logAxis(low, high, from, to) {
  const place = (value) => from + ((Math.log10(Math.min(Math.max(value, low), high)) - Math.log10(low)) / Math.log10(high / low)) * (to - from);
  const marks = [];
  for (let power = Math.ceil(Math.log10(low) - 1e-9); power <= Math.log10(high) + 1e-9; power += 1) marks.push(10 ** power);
  return { place, marks };
}

// What deters a single cheat (otr_core.economics.deterrence): detection ρ must exceed gain / (price + kept stake).
function neededRate(state) {
  return state.gain / (data.price + state.slashed * (1 - state.returned) * state.stake);
}

function drawDispute(state) {
  const moves = data.moves;
  const shown = Math.round(state.move);
  const parts = [text(180, 18, "share of the level's tree still in doubt"), text(700, 18, "gas so far")];
  const most = moves[moves.length - 1].gas_so_far;
  moves.forEach((move, row) => {
    const y = 28 + row * 24;
    const colour = row < shown ? LEVELS[move.level] : "#dddddd";
    parts.push(text(170, y + 14, `${move.by}: ${move.name.replace("_", " ")}`, "end"));
    parts.push(bar(180, y, 480, 18, "#f2f2f2"));
    if (row < shown) {
      parts.push(bar(180 + 480 * move.left, y, 480 * (move.right - move.left), 18, colour));
      parts.push(bar(700, y, (180 * move.gas_so_far) / most, 18, colour));
    }
    if (row === shown - 1) parts.push(`<rect x="4" y="${y - 3}" width="892" height="24" fill="none" stroke="${INK}" stroke-width="2"/>`);
  });
  const now = moves[shown - 1];
  const end = shown === moves.length ? " The contract computes this step itself, and the operator is slashed." : "";
  return {
    picture: svg(900, 40 + moves.length * 24, "moves of the dispute and what is still in doubt", parts),
    reading: `Move ${now.move} of ${moves.length}, ${now.by}: ${now.name.replace("_", " ")}. ` +
      `In doubt: ${number(now.units)} of ${number(now.of)} (${now.level}). Gas ${number(now.gas)}, in all ${number(now.gas_so_far)}.${end}`,
  };
}

function drawStake(state) {
  const [x, y] = [logAxis(1e-2, 1e7, 80, 860), logAxis(1e-3, 100, 330, 20)]; // the rate in per cent
  const parts = [];
  const least = [];
  for (let step = 0; step <= 180; step += 1) {
    const stake = 10 ** (-2 + step / 20);
    const rate = neededRate({ ...state, stake });
    if (rate <= 1) least.push(`${x.place(stake)},${y.place(100 * rate)}`);
  }
  if (least.length) {
    const first = least[0].split(",")[0];
    parts.push(`<polygon points="${least.join(" ")} 860,20 ${first},20" fill="${BLUE}" fill-opacity="0.15"/>`);
    parts.push(`<polyline points="${least.join(" ")}" fill="none" stroke="${BLUE}" stroke-width="2.5"/>`);
    parts.push(text(850, 38, "honesty pays", "end"));
  }
  x.marks.forEach((mark) => parts.push(line(x.place(mark), 330, x.place(mark), 336, INK), text(x.place(mark), 352, number(mark), "middle")));
  y.marks.forEach((mark) => parts.push(line(74, y.place(mark), 80, y.place(mark), INK), text(70, y.place(mark) + 5, number(mark), "end")));
  parts.push(line(80, 330, 860, 330, INK), line(80, 20, 80, 330, INK), text(470, 374, "stake per answer (USD)", "middle"));
  parts.push(text(18, 175, "spot-check rate ρ (%)", "middle", 'transform="rotate(-90 18 175)"'));
  const stated = y.place(100 * data.stated.rho);
  parts.push(line(80, stated, 860, stated, INK, 'stroke-dasharray="6 4"'), text(850, stated - 6, "the paper's rate", "end"));
  const [left, top] = [x.place(state.stake), y.place(state.rho)];
  parts.push(`<circle cx="${left}" cy="${top}" r="7" fill="${ORANGE}" stroke="white"/>`, text(left + (left > 700 ? -12 : 12), top + 18, "your case", left > 700 ? "end" : "start"));
  const needed = neededRate(state);
  const kept = state.slashed * (1 - state.returned);
  const rho = state.rho / 100;
  const stake = kept > 0 ? Math.max(0, state.gain / rho - data.price) / kept : Infinity;
  const verdict = rho > needed ? "Honesty pays" : "Cheating pays";
  return {
    picture: svg(900, 384, "where honesty pays, over stake and rate", parts),
    reading: `${verdict}: at this stake a rate above ${needed <= 1 ? `${number(100 * needed)} %` : "100 % would be needed, and none suffices"}` +
      `${needed <= 1 ? " deters" : ""}; at this rate a stake above ${number(stake)} USD does.`,
  };
}

function drawCost(state) {
  const rho = state.rho / 100;
  const latency = (1 - rho) * state.base + rho * state.proof;
  const proofs = rho * state.price;
  const others = data.items.reduce((sum, item) => sum + item.usd, 0);
  const rows = [
    { name: "base", value: (1 - rho) * state.base, unit: "s", colour: BLUE },
    { name: "awaited proofs", value: rho * state.proof, unit: "s", colour: ORANGE },
    { name: "mean latency", value: latency, unit: "s", colour: INK, stated: data.stated.latency },
    { name: "all other items", value: others, unit: "USD", colour: BLUE },
    { name: "sampled proofs", value: proofs, unit: "USD", colour: ORANGE },
    { name: "cost of a query", value: others + proofs, unit: "USD", colour: INK, stated: data.stated.cost },
  ];
  const axes = { s: logAxis(1e-3, 1e5, 170, 760), USD: logAxis(1e-6, 1e3, 170, 760) };
  const parts = [];
  rows.forEach((row, index) => {
    const y = 20 + index * 40 + (index > 2 ? 50 : 0);
    const { place } = axes[row.unit];
    parts.push(text(160, y + 17, row.name, "end"), bar(170, y, place(row.value) - 170, 24, row.colour));
    parts.push(text(place(row.value) + 8, y + 17, `${number(row.value)} ${row.unit}`));
    if (row.stated) {
      const at = place(row.stated);
      parts.push(line(at, y - 84, at, y + 28, INK, 'stroke-dasharray="6 4"'), text(at, y + 44, `the paper: ${number(row.stated)} ${row.unit}`, "middle"));
    }
  });
  const [slower, dearer] = [latency / data.stated.latency, (others + proofs) / data.stated.cost];
  return {
    picture: svg(900, 320, "latency and cost of a query, by part; logarithmic", parts),
    reading: `Mean latency ${number(latency)} s, ${number(slower)} times the stated one; ` +
      `${number(others + proofs)} USD a query, ${number(dearer)} times the stated one.`,
  };
}

function drawCalendar(state) {
  const [months, cases] = [data.names["calendar-month"], data.calendar];
  const [left, width, high] = [210, 670, 24];
  const place = (month) => left + (width * month) / months.length;
  const parts = [];
  cases.forEach(({ case: name, spans }, row) => {
    const y = 20 + row * high;
    parts.push(text(left - 10, y + 14, name, "end", row === state.case ? 'font-weight="bold"' : ""));
    for (const span of spans) {
      const good = span.verdict === "accepted";
      parts.push(bar(place(span.first), y + (good ? 0 : 6), place(span.last + 1) - place(span.first), good ? 18 : 6, good ? GREEN : "#8a8a8a"));
    }
    if (row === state.case) parts.push(`<rect x="4" y="${y - 3}" width="892" height="${high}" fill="none" stroke="${INK}" stroke-width="2"/>`);
  });
  const bottom = 24 + cases.length * high;
  months.forEach((month, index) => {
    if (month.endsWith("-01")) parts.push(line(place(index), bottom - 4, place(index), bottom + 4, INK), text(place(index), bottom + 20, month.slice(0, 4), "middle"));
  });
  const now = place(state.month + 0.5);
  parts.push(line(now, 12, now, bottom, ORANGE, 'stroke-width="2"'));
  parts.push(text(left, bottom + 42, "thick: accepted; thin: rejected"));
  const { case: name, spans } = cases[state.case];
  const found = spans.find((span) => span.first <= state.month && state.month <= span.last);
  const why = found.claim ? `, by ${found.claim}: ${found.reason}` : "";
  const whole = cases.filter((one) => one.spans.some((span) => span.first <= state.month && state.month <= span.last && span.verdict === "accepted"));
  return {
    picture: svg(900, bottom + 52, "verdict on each piece of evidence by month", parts),
    reading: `${name}, appraised on the first of ${months[state.month]}: ${found.verdict}${why}. ` +
      `Accepted on that day: ${whole.length} of ${cases.length}.`,
  };
}

const DRAW = { dispute: drawDispute, stake: drawStake, cost: drawCost, calendar: drawCalendar };

for (const [name, draw] of Object.entries(DRAW)) {
  const box = document.getElementById(name);
  const sliders = [...box.querySelectorAll("input")];
  const key = (slider) => slider.id.slice(name.length + 1);
  // A slider moves in steps; where it starts, its value is exact.
  const value = (slider) => {
    if (slider.dataset.moved === "false") return Number(slider.dataset.start);
    return slider.dataset.log === "true" ? 10 ** slider.valueAsNumber : slider.valueAsNumber;
  };
  const shown = (slider) => (data.names[slider.id] ? data.names[slider.id][value(slider)] : number(value(slider)));
  const moved = (slider) => {
    slider.dataset.moved = "true";
    show();
  };
  const show = () => {
    const { picture, reading } = draw(Object.fromEntries(sliders.map((slider) => [key(slider), value(slider)])));
    box.querySelector(".picture").innerHTML = picture;
    box.querySelector(".reading").textContent = reading;
    for (const slider of sliders) {
      document.getElementById(`${slider.id}-value`).textContent = shown(slider);
      slider.setAttribute("aria-valuetext", shown(slider));
    }
  };
  const reset = () => {
    for (const slider of sliders) {
      const start = Number(slider.dataset.start);
      slider.value = slider.dataset.log === "true" ? Math.log10(start) : start;
      slider.dataset.moved = "false";
    }
    show();
  };
  for (const slider of sliders) slider.addEventListener("input", () => moved(slider));
  box.querySelector("[data-reset]").addEventListener("click", reset);
  for (const button of box.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => {
      sliders[0].valueAsNumber += Number(button.dataset.step);
      moved(sliders[0]);
    });
  }
  reset();
  box.hidden = false;
}
