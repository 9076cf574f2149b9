"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);

  // Tables: a click on a column's name sorts by it; a second click turns the order round.
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
    : typeof a === "number" ? -1 : typeof b === "number" ? 1 : a.localeCompare(b, "en", { numeric: true });
  for (const table of all("table.sortable")) {
    all("thead th", table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => (down ? -1 : 1) * compare(key(a, column), key(b, column)));
        table.tBodies[0].append(...rows);
      });
    });
  }

  // Downloads.
  const save = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const field = (text) => {
    const safe = /^[=+\-@\t]/.test(text) ? "'" + text : text;
    return /[",\n\r]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
  };
  const csv = (table) => {
    const value = (cell) => cell.dataset.v ?? (cell.textContent === "–" ? "" : field(cell.textContent));
    return [...table.rows].map((row) => [...row.cells].map(value).join(",") + "\n").join("");
  };
  const NS = "http://www.w3.org/2000/svg";
  // One SVG out of everything that a figure shows, with its own styles and patterns, so that it stands alone.
  const svg = (figure) => {
    const parts = all("svg.chart", figure).filter((part) => part.getClientRects().length);
    const tiles = all(".tile", figure).flatMap((tile) => all("canvas", tile).map((canvas) => ({ canvas, tile })));
    const columns = Math.max(1, parts.length > 1 ? 3 : 1);
    const out = document.createElementNS(NS, "svg");
    const style = document.createElementNS(NS, "style");
    style.textContent = one("#chart-style").textContent.replace(/@media screen[^{]*\{(:root\{[^}]*\})\}/, "");
    out.append(style, one("#chart-defs").cloneNode(true));
    const ground = document.createElementNS(NS, "rect");
    ground.setAttribute("width", "100%");
    ground.setAttribute("height", "100%");
    ground.setAttribute("fill", "#fff");
    out.append(ground);
    let [x, y, width, height, row] = [0, 0, 0, 0, 0];
    const place = (part, w, h, index, across) => {
      if (index % across === 0) { x = 0; y += row; row = 0; }
      for (const [name, value] of Object.entries({ x, y, width: w, height: h })) part.setAttribute(name, value);
      out.append(part);
      x += w + 8;
      row = Math.max(row, h + 8);
      width = Math.max(width, x);
      height = y + row;
    };
    parts.forEach((part, index) => {
      const box = part.viewBox.baseVal;
      place(part.cloneNode(true), box.width, box.height, index, columns);
    });
    tiles.forEach(({ canvas, tile }, index) => {
      const group = document.createElementNS(NS, "svg");
      group.setAttribute("class", "chart");
      const image = document.createElementNS(NS, "image");
      image.setAttribute("href", canvas.toDataURL());
      const high = 96 * canvas.height / canvas.width;
      image.setAttribute("width", 96);
      image.setAttribute("height", high);
      const text = document.createElementNS(NS, "text");
      text.setAttribute("x", 48);
      text.setAttribute("y", high + 14);
      text.setAttribute("text-anchor", "middle");
      text.textContent = one("span", tile).textContent;
      group.append(image, text);
      place(group, 96, high + 20, index, 8);
    });
    out.setAttribute("viewBox", `0 0 ${width} ${height}`);
    out.setAttribute("width", width);
    out.setAttribute("height", height);
    return new XMLSerializer().serializeToString(out);
  };
  for (const button of all("button[data-download]")) {
    button.addEventListener("click", () => {
      const figure = button.closest("figure");
      if (button.dataset.download === "svg") save(figure.id + ".svg", "image/svg+xml", svg(figure));
      else save(figure.id + ".csv", "text/csv", csv(one("details table", figure) ?? one("table", figure)));
    });
  }

  // The explorer of Grad-CAM maps.
  const source = one("#maps-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const colours = bytes(data.colours);
  const [select, slider, beside, tiles, state, play] = ["#line", "#round", "#beside", "#tiles", "#state", "#play"].map((id) => one(id));
  const stages = new Set(data.lines.map((line) => line.stage));
  data.lines.forEach((line, index) => {
    const option = document.createElement("option");
    option.value = index;
    option.textContent = line.name + (stages.size > 1 ? ", " + line.stage : "");
    select.append(option);
  });
  const scale = Math.max(data.width, data.height) <= 48 ? 3 : 1;
  const [width, height] = [data.width * scale, data.height * scale];
  const maps = new Map();
  const decoded = (round) => {
    if (!maps.has(round)) maps.set(round, bytes(round.maps));
    return maps.get(round);
  };
  const denseOf = (line) => data.lines.find((other) =>
    other.replicate === line.replicate && other.stage === line.stage && other.rounds[0].round === 0);

  // Bilinear with half-pixel centres, as the program upsamples.
  const sampler = (target, from) => Array.from({ length: target }, (_, index) => {
    const at = Math.min(Math.max((index + 0.5) * from / target - 0.5, 0), from - 1);
    const low = Math.floor(at);
    return [low, Math.min(low + 1, from - 1), at - low];
  });
  const topFifth = (map) => {
    const order = [...map.keys()].filter((index) => map[index] > 0).sort((a, b) => map[b] - map[a] || a - b);
    const lit = new Uint8Array(map.length);
    order.slice(0, Math.max(1, Math.round(0.2 * map.length))).forEach((index) => { lit[index] = 1; });
    return lit;
  };
  let pixels;
  const draw = (canvas, position, line, round, view) => {
    const [h, w] = line.size;
    const map = decoded(round).subarray(position * h * w, (position + 1) * h * w);
    const empty = round.degenerate[position] || map.every((value) => value === 0);
    const lit = view === "top" ? topFifth(map) : null;
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const top = Math.floor(position / data.columns) * data.height;
    const left = position % data.columns * data.width;
    const [rows, columns] = [sampler(height, h), sampler(width, w)];
    for (let y = 0; y < height; y++) {
      const [y0, y1, fy] = rows[y];
      const cellY = Math.floor(y * h / height) * w;
      for (let x = 0; x < width; x++) {
        const [x0, x1, fx] = columns[x];
        const under = ((top + Math.floor(y / scale)) * pixels.width + left + Math.floor(x / scale)) * 4;
        const at = (y * width + x) * 4;
        const cell = cellY + Math.floor(x * w / width);
        let colour = 0;
        let opacity = 0;
        if (view === "raw") {
          colour = map[cell];
          opacity = 1;
        } else if (view === "overlay" && !empty) {
          const value = (map[y0 * w + x0] * (1 - fx) + map[y0 * w + x1] * fx) * (1 - fy)
            + (map[y1 * w + x0] * (1 - fx) + map[y1 * w + x1] * fx) * fy;
          colour = Math.round(value);
          opacity = 0.12 + 0.68 * value / 255;
        } else if (lit) {
          colour = lit[cell] ? 255 : 0;
          opacity = lit[cell] ? 0.55 : 0.6;
        }
        for (let channel = 0; channel < 3; channel++) {
          image.data[at + channel] = pixels.data[under + channel] * (1 - opacity) + colours[3 * colour + channel] * opacity;
        }
        image.data[at + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
    if (empty) {
      context.strokeStyle = "#fff";
      context.lineWidth = Math.max(2, width / 40);
      context.beginPath();
      context.moveTo(width * 0.1, height * 0.1);
      context.lineTo(width * 0.9, height * 0.9);
      context.moveTo(width * 0.9, height * 0.1);
      context.lineTo(width * 0.1, height * 0.9);
      context.stroke();
    }
  };
  const canvasFor = (tile) => {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    canvas.setAttribute("role", "img");
    one(".pictures", tile).append(canvas);
    return canvas;
  };
  const built = data.images.map((image) => {
    const tile = document.createElement("figure");
    tile.className = "tile";
    const pictures = document.createElement("div");
    pictures.className = "pictures";
    tile.append(pictures, document.createElement("span"));
    tiles.append(tile);
    return { tile, dense: null, main: canvasFor(tile), image };
  });
  const render = () => {
    const line = data.lines[select.value || 0];
    slider.max = line.rounds.length - 1;
    const round = line.rounds[Math.min(slider.value, slider.max)];
    const view = one("input[name=view]:checked").value;
    const dense = beside.checked ? denseOf(line) : null;
    tiles.classList.toggle("pairs", Boolean(dense));
    let wrong = 0;
    const rows = built.map((entry, position) => {
      const { tile, image } = entry;
      const predicted = round.predicted[position];
      const missed = predicted !== null && predicted !== image.class;
      const empty = round.degenerate[position];
      wrong += missed;
      if (dense && !entry.dense) {
        entry.dense = canvasFor(tile);
        entry.main.before(entry.dense);
      }
      if (entry.dense) entry.dense.hidden = !dense, entry.dense.style.display = dense ? "" : "none";
      if (dense) {
        draw(entry.dense, position, dense, dense.rounds[0], view);
        entry.dense.setAttribute("aria-label", `${image.label}, dense network: Grad-CAM`);
      }
      draw(entry.main, position, line, round, view);
      const told = (missed ? `, misclassified as ${predicted}` : "") + (empty ? ", map zero everywhere" : "");
      entry.main.setAttribute("aria-label", `${image.label}, round ${round.round}: Grad-CAM${told}`);
      tile.classList.toggle("wrong", missed);
      one("span", tile).textContent = image.label + (missed ? ` → ${predicted}` : "");
      return [image.label, image.class, predicted ?? "–", empty ? "zero" : "fine"];
    });
    one("#shown tbody").replaceChildren(...rows.map((cells) => {
      const row = document.createElement("tr");
      row.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
      return row;
    }));
    const zero = round.degenerate.filter(Boolean).length;
    state.textContent = `Round ${round.round}, ${round.density} of the weights kept, ${line.stage}. ${wrong} of ${rows.length} shown images misclassified, ${zero} maps zero everywhere.`;
    slider.setAttribute("aria-valuetext", `round ${round.round}, ${round.density} kept`);
  };
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
  play.addEventListener("click", () => {
    if (timer) return stop();
    play.textContent = "Stop";
    if (slider.value === slider.max) slider.value = 0;
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      render();
      if (slider.value === slider.max) stop();
    }, 600);
  });
  const sprite = new Image();
  sprite.addEventListener("load", () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [sprite.width, sprite.height];
    const context = canvas.getContext("2d");
    context.drawImage(sprite, 0, 0);
    pixels = context.getImageData(0, 0, sprite.width, sprite.height);
    for (const control of [select, slider, beside, ...all("input[name=view]")]) control.addEventListener("input", render);
    render();
    tiles.dataset.ready = "yes";
  });
  sprite.src = data.sprite;
})();
