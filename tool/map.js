// map.js - makes the picture of allot map answer: colours by another question, a look into a span, keys, words for who
// can't see it. It is put into the SVG; without it (in an <img>) the picture stands as it was drawn.
"use strict";
(() => {
  const root = document.documentElement;
  const spans = data.spans;      // [begin, granules, use, class bytes, heap, blocks, live, resident, age, bits]
  const names = data.uses;
  const side = 1 << data.order;  // cells on an edge
  const size = 640 / side;
  const byId = (id) => document.getElementById(id);
  const make = (name, attributes, parent, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    parent.appendChild(element);
    return element;
  };

  // ---- the curve ----
  const place = (d) => {
    let x = 0, y = 0;
    for (let s = 1; s < side; s *= 2) {
      const rx = 1 & (d >> 1), ry = 1 & (d ^ rx);
      if (ry === 0) {
        if (rx === 1) { x = s - 1 - x; y = s - 1 - y; }
        [x, y] = [y, x];
      }
      x += s * rx;
      y += s * ry;
      d >>= 2;
    }
    return [x, y];
  };
  const first = [];              // of each span, its first granule's number on the curve
  let total = 0;
  for (const span of spans) { first.push(total); total += span[1]; }
  const spanAt = (granule) => {
    let low = 0, high = spans.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (first[middle] <= granule) low = middle; else high = middle - 1;
    }
    return low;
  };
  const cells = Math.min(side * side, Math.ceil(total / data.step));
  const cellOf = new Int32Array(side * side).fill(-1); // by y * side + x
  for (let c = 0; c < cells; c++) { const [x, y] = place(c); cellOf[y * side + x] = c; }
  const spanOfCell = (c) => spanAt(Math.min(c * data.step, total - 1));

  // ---- words ----
  const bytes = (n) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let u = 0;
    while (n >= 1024 && u < 4) { n /= 1024; u++; }
    return (u ? n.toFixed(1) : n) + " " + units[u];
  };
  const age = (ms) => ms < 0 ? "not known" : ms < 1000 ? ms + " ms" : ms < 60000 ? (ms / 1000).toFixed(1) + " s" :
    ms < 3600000 ? (ms / 60000).toFixed(1) + " min" : (ms / 3600000).toFixed(1) + " h";
  const words = (i) => {
    const [begin, granules, use, block, heap, n, live, resident, old] = spans[i];
    const lines = [`${names[use]}, ${bytes(granules * 65536)} at ${begin}`, `${bytes(resident)} resident`];
    if (n > 0) lines.push(n === 1 ? `one block of ${bytes(block)}` : `${live} of ${n} blocks of ${bytes(block)} are live`);
    if (heap > 0) lines.push(`of heap ${heap}`);
    lines.push(use === 4 ? `free for ${age(old)}` : `last free: ${age(old)} ago`.replace("not known ago", "not known"));
    return lines;
  };

  // ---- colours ----
  const ramp = (i, n) => `hsl(${220 - 220 * i / Math.max(n - 1, 1)},65%,var(--light))`;
  const sizes = [64, 256, 1024, 8192, 65536, 524288, Infinity];
  const ages = [250, 1000, 10000, 60000, 600000, Infinity];
  const modes = {
    use: { of: (s) => s[2] * 4 + (s[2] >= 3 || s[5] === 0 ? 3 : Math.min(3, Math.floor(s[6] * 4 / s[5]))),
           name: (k) => names[k >> 2] + (k < 8 ? [": up to 1/4 live", ": up to 1/2", ": up to 3/4", ": nearly all live"][k & 3] : ""),
           fill: (k) => `var(--u${k >> 2})`, opacity: (k) => [0.35, 0.55, 0.78, 1][k & 3] },
    class: { of: (s) => s[2] === 4 ? 8 : s[3] === 0 ? 7 : sizes.findIndex((n) => s[3] <= n),
             name: (k) => k === 8 ? "free spans" : k === 7 ? "no classes" : k === 6 ? "blocks above 512 KiB" : `blocks up to ${bytes(sizes[k])}`,
             fill: (k) => k > 6 ? "var(--u4)" : ramp(k, 7) },
    age: { of: (s) => s[8] < 0 ? 6 : ages.findIndex((n) => s[8] < n),
           name: (k) => k === 6 ? "age not known" : k === 5 ? "older" : `less than ${age(ages[k])}`,
           fill: (k) => k === 6 ? "var(--u4)" : ramp(k, 6) },
    room: { of: (s) => s[2] <= 2 ? 0 : s[2] === 3 ? 1 : s[2] === 5 ? 2 : 3,
            name: (k) => ["heap", "pool", "guarded blocks and other", "free"][k],
            fill: (k) => ["var(--u0)", "var(--u3)", "var(--u5)", "var(--u4)"][k] },
    heap: { of: (s) => s[4] === 0 ? 0 : 1 + s[4] % 8, name: (k) => k === 0 ? "nobody's" : `heaps ${k - 1}, ${k + 7}, ...`,
            fill: (k) => k === 0 ? "var(--u4)" : `hsl(${k * 45},60%,var(--light))` },
  };

  let mode = "use", selected = 0, inside = false;
  const map = byId("map"), legend = byId("legend"), blocks = byId("blocks"), mark = byId("mark"), told = byId("told");

  const draw = () => {
    const paths = {}, counts = {}, how = modes[mode];
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side;) {
        const c = cellOf[y * side + x];
        if (c < 0) { x++; continue; }
        const key = how.of(spans[spanOfCell(c)]);
        let end = x + 1;
        while (end < side && cellOf[y * side + end] >= 0 && how.of(spans[spanOfCell(cellOf[y * side + end])]) === key) end++;
        (paths[key] = paths[key] || []).push(`M${x} ${y}h${end - x}v1h${x - end}z`);
        x = end;
      }
    }
    for (const span of spans) { const k = how.of(span); counts[k] = (counts[k] || 0) + span[1] * 65536; }
    byId("cells").replaceChildren();
    for (const key in paths) {
      make("path", { d: paths[key].join(""), fill: how.fill(+key), opacity: how.opacity ? how.opacity(+key) : 1 }, byId("cells"));
    }
    legend.replaceChildren();
    let row = 0;
    for (const key of Object.keys(counts).sort((a, b) => a - b)) {
      const y = row++ * 19;
      make("rect", { x: 0, y, width: 13, height: 13, fill: how.fill(+key), opacity: how.opacity ? how.opacity(+key) : 1 }, legend);
      make("text", { x: 20, y: y + 11 }, legend, how.name(+key));
      make("text", { x: 300, y: y + 11, "text-anchor": "end" }, legend, bytes(counts[key]));
    }
    for (const button of root.querySelectorAll("[data-mode]")) {
      button.setAttribute("aria-pressed", button.dataset.mode === mode);
    }
  };

  const select = (i) => {
    selected = Math.max(0, Math.min(spans.length - 1, i));
    const from = Math.floor(first[selected] / data.step);
    const to = Math.max(from, Math.ceil((first[selected] + spans[selected][1]) / data.step) - 1);
    const within = (x, y) => x >= 0 && y >= 0 && x < side && y < side && cellOf[y * side + x] >= from && cellOf[y * side + x] <= to;
    let d = "";                  // the edges on whose other side another span is
    for (let c = from; c <= Math.min(to, cells - 1); c++) {
      const [x, y] = place(c);
      if (!within(x, y - 1)) d += `M${x} ${y}h1`;
      if (!within(x, y + 1)) d += `M${x} ${y + 1}h1`;
      if (!within(x - 1, y)) d += `M${x} ${y}v1`;
      if (!within(x + 1, y)) d += `M${x + 1} ${y}v1`;
    }
    mark.setAttribute("d", d);
    const lines = words(selected);
    told.replaceChildren();
    lines.forEach((line, n) => make("tspan", { x: 680, dy: n ? 17 : 0 }, told, line));
    map.setAttribute("aria-label", `Span ${selected + 1} of ${spans.length}: ${lines.join("; ")}`);
    if (inside) look();
  };

  // ---- into a span: a cell for each block ----
  const look = () => {
    const [begin, granules, use, block, , n, live, , , bits] = spans[selected];
    inside = true;
    blocks.replaceChildren();
    blocks.setAttribute("visibility", "visible");
    make("rect", { width: 640, height: 640, fill: "var(--bg)" }, blocks);
    make("text", { x: 0, y: 14, class: "strong" }, blocks, `${names[use]} at ${begin}: ${n ? `${live} of ${n} blocks live` : "no blocks"}`);
    make("text", { x: 0, y: 34 }, blocks, "Escape or a click leads back; arrows go to the spans beside it");
    if (n === 0 || bits === "") {
      make("text", { x: 0, y: 70 }, blocks, n === 0 ? "Nothing is in it." : "Its blocks were not kept: the picture would be too large.");
      return;
    }
    const columns = Math.ceil(Math.sqrt(n)), cell = Math.min(590 / columns, 64), gap = cell > 8 ? 1 : 0;
    const raw = atob(bits), path = ["", ""];
    for (let i = 0; i < n; i++) {
      const isLive = (raw.charCodeAt(i >> 3) >> (i & 7)) & 1;
      path[isLive] += `M${(i % columns) * cell} ${50 + Math.floor(i / columns) * cell}h${cell - gap}v${cell - gap}h${gap - cell}z`;
    }
    make("path", { d: path[1], fill: `var(--u${use})` }, blocks);
    make("path", { d: path[0], fill: "none", stroke: "var(--u4)", "stroke-width": cell > 4 ? 1 : 0.3 }, blocks);
  };
  const back = () => {
    inside = false;
    blocks.setAttribute("visibility", "hidden");
    blocks.replaceChildren();
  };

  // ---- hands ----
  const setMode = (name) => { mode = name; draw(); };
  for (const button of root.querySelectorAll("[data-mode]")) {
    button.addEventListener("click", () => setMode(button.dataset.mode));
    button.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { setMode(button.dataset.mode); event.preventDefault(); event.stopPropagation(); }
    });
  }
  const under = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
    const x = Math.floor(point.x / size), y = Math.floor(point.y / size);
    const c = x >= 0 && y >= 0 && x < side && y < side ? cellOf[y * side + x] : -1;
    return c < 0 ? -1 : spanOfCell(c);
  };
  map.addEventListener("mousemove", (event) => { const i = inside ? -1 : under(event); if (i >= 0 && i !== selected) select(i); });
  map.addEventListener("click", (event) => {
    map.focus();
    if (inside) { back(); return; }
    const i = under(event);
    if (i >= 0) { select(i); look(); }
  });
  root.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 16, ArrowUp: -16, Home: -Infinity, End: Infinity };
    if (event.key in steps) select(selected + steps[event.key]);
    else if (event.key === "Enter") look();
    else if (event.key === "Escape") back();
    else if (event.key >= "1" && event.key <= "5") setMode(Object.keys(modes)[event.key - 1]);
    else return;
    event.preventDefault();
  });
  map.setAttribute("tabindex", "0");
  byId("buttons").setAttribute("visibility", "visible");
  byId("static").remove();
  draw();
  select(0);
})();
