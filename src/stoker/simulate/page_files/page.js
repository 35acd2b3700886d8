"use strict";
// The page is whole without this: it adds the read-out under the pointer, and the journal's filter.
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const figures = [...document.querySelectorAll("figure[data-plot]")].map((figure) => ({
    figure,
    plot: plots[Number(figure.dataset.plot)],
    frame: figure.querySelector(".frame"),
    cross: figure.querySelector(".cross"),
    outputs: [...figure.querySelectorAll(".legend output")],
  }));

  const two = (n) => String(n).padStart(2, "0");
  const clock = (at) => `${Math.floor(at / 3600)}:${two(Math.floor(at / 60) % 60)}:${two(Math.floor(at) % 60)}`;
  const span = (s) => {
    if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
    if (s < 59.95) return `${s.toFixed(s < 9.995 ? 2 : 1)} s`;
    if (s < 3599.5) return `${Math.floor(Math.round(s) / 60)} min ${two(Math.round(s) % 60)} s`;
    return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} min`;
  };
  const shown = (value, unit) => {
    if (value === null || value === undefined) return "–";
    if (unit === "seconds") return span(value);
    if (unit === "usd") return `$${value.toFixed(value < 0.1 ? 4 : 2)}`;
    if (unit === "rate") return String(Number(value.toPrecision(3)));
    return value.toLocaleString("en-US");
  };
  // The last moment that is not after `at`.
  const indexAt = (moments, at) => {
    let low = 0, high = moments.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (moments[middle] <= at) low = middle + 1; else high = middle;
    }
    return Math.max(0, low - 1);
  };

  let now = null;
  const show = (at) => {
    now = at;
    for (const { plot, cross, outputs } of figures) {
      const inside = at !== null && at <= plot.end && plot.at.length > 0;
      cross.hidden = !inside;
      const index = inside ? indexAt(plot.at, at) : -1;
      if (inside) {
        cross.style.left = `${(100 * at) / plot.end}%`;
        cross.dataset.at = plot.axis === "count" ? Math.round(at).toLocaleString("en-US") : clock(at);
      }
      outputs.forEach((output, i) => { output.textContent = inside ? shown(plot.values[i][index], plot.unit) : ""; });
    }
  };
  const follow = (event, each) => {
    const box = each.frame.getBoundingClientRect();
    show(Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * each.plot.end);
  };
  for (const each of figures) {
    each.frame.addEventListener("pointermove", (event) => follow(event, each));
    each.frame.addEventListener("pointerdown", (event) => follow(event, each));
    each.frame.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") show(null); });
    each.figure.addEventListener("keydown", (event) => {
      if (event.target !== each.figure) return;
      const moves = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 };
      if (event.key === "Escape") show(null);
      else if (event.key === "Home") show(0);
      else if (event.key === "End") show(each.plot.end);
      else if (event.key in moves) {
        const from = now === null ? 0 : now + (moves[event.key] * each.plot.end) / 200;
        show(Math.min(Math.max(from, 0), each.plot.end));
      } else return;
      event.preventDefault();
    });
  }

  const filter = document.querySelector(".filter");
  if (filter) {
    filter.hidden = false;
    const [kind, words, count] = ["select", "input", "output"].map((name) => filter.querySelector(name));
    const rows = [...document.querySelectorAll(".journal tbody tr")];
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const apply = () => {
      const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      rows.forEach((row, i) => {
        const fits = (!kind.value || row.dataset.kind === kind.value) && asked.every((word) => texts[i].includes(word));
        row.hidden = !fits;
        left += fits;
      });
      count.textContent = `${left.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")}`;
    };
    kind.addEventListener("change", apply);
    words.addEventListener("input", apply);
    apply();
  }
  document.documentElement.dataset.ready = String(figures.length);
})();
