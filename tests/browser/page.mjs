// Opens report pages from disk in headless Chromium and checks what a reader would meet.
//   node page.mjs CHROMIUM SCREENSHOT_FOLDER PAGE.html…
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { launch } from "./chromium.mjs";

const [chromium, folder, ...pages] = process.argv.slice(2);
const downloads = join(folder, "downloads");
rmSync(folder, { recursive: true, force: true });
mkdirSync(downloads, { recursive: true });
const browser = await launch(chromium);
const { page, on, evaluate, until } = browser;

const faults = [];
const requests = [];
on("Runtime.exceptionThrown", ({ exceptionDetails }) => faults.push(exceptionDetails.exception?.description ?? exceptionDetails.text));
on("Runtime.consoleAPICalled", ({ type, args }) => { if (type === "error" || type === "warning") faults.push(JSON.stringify(args)); });
on("Log.entryAdded", ({ entry }) => { if (entry.level === "error") faults.push(entry.text); });
on("Network.requestWillBeSent", ({ request }) => requests.push(request.url));
for (const domain of ["Page", "Runtime", "Log", "Network"]) await page(`${domain}.enable`);
await browser.call("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: downloads });

const size = (width) => page("Emulation.setDeviceMetricsOverride",
  { width, height: 900, deviceScaleFactor: 1, mobile: width < 500 });
const theme = (value) => page("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] });

async function screenshot(name, width) {
  const height = await evaluate("document.documentElement.scrollHeight");
  const { data } = await page("Page.captureScreenshot",
    { format: "png", captureBeyondViewport: true, clip: { x: 0, y: 0, width, height: Math.min(height, 14000), scale: 1 } });
  writeFileSync(join(folder, name), Buffer.from(data, "base64"));
}

// WCAG 2.2, 1.4.3: every visible text against what lies behind it, 4.5 (3 where large).
const CONTRAST = `(() => {
  const parse = (text) => { const m = text.match(/[\\d.]+/g)?.map(Number) ?? [0, 0, 0, 0]; return { rgb: m.slice(0, 3), a: m[3] ?? 1 }; };
  const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const { rgb, a } = parse(getComputedStyle(at).backgroundColor);
      if (a === 1) return rgb;
    }
    return parse(getComputedStyle(document.documentElement).backgroundColor).a ? [255, 255, 255] : [255, 255, 255];
  };
  const poor = [];
  let checked = 0;
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.getClientRects().length || ["SCRIPT", "STYLE", "TITLE", "title", "OPTION"].includes(node.tagName)) continue;
    const style = getComputedStyle(node);
    const front = parse(node instanceof SVGElement ? style.fill : style.color).rgb;
    const [a, b] = [light(front), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const pixels = parseFloat(style.fontSize);
    const large = pixels >= 24 || (pixels >= 18.66 && Number(style.fontWeight) >= 700);
    checked++;
    if (ratio < (large ? 3 : 4.5)) poor.push(ratio.toFixed(2) + " " + text.data.trim().slice(0, 40));
  }
  return { checked, poor: [...new Set(poor)] };
})()`;

const NAMELESS = `[...document.querySelectorAll("img, svg, canvas, [role=img]")]
  .filter((node) => node.getClientRects().length && !node.hasAttribute("aria-hidden") && !node.closest("[aria-hidden]")
    && !(node.getAttribute("alt") || node.getAttribute("aria-label"))).map((node) => node.outerHTML.slice(0, 100))`;
const pixels = `(() => { const c = document.querySelector("#tiles .tile:nth-child(4) canvas:last-child");
  return Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data).join(); })()`;

try {
  for (const path of pages) {
    const name = basename(path, ".html");
    faults.length = requests.length = 0;
    await size(1400);
    await theme("light");
    const url = pathToFileURL(path).href;
    // Open in less than 2 s. Builds and tests beside this one only ever add time, so the fastest of at most five openings counts.
    let seconds = Infinity;
    for (let turn = 0; turn < 5 && seconds >= 2; turn++) {
      if (turn > 0) await page("Page.navigate", { url: "about:blank" });
      const started = performance.now();
      await page("Page.navigate", { url });
      await until(`location.href === ${JSON.stringify(url)} && document.readyState === "complete" &&
        (!document.querySelector("#tiles") || document.querySelector("#tiles").dataset.ready === "yes")`, `${name} to be ready`);
      seconds = Math.min(seconds, (performance.now() - started) / 1000);
    }
    console.log(`${name}: ready after ${seconds.toFixed(2)} s`);
    assert.ok(seconds < 2, `${name} opens in ${seconds} s`);
    assert.ok(!(await evaluate("document.title")).includes("broken"), `${name}: a name ran as a script`);
    assert.equal(await evaluate("document.querySelectorAll('main script:not([type])').length"), 0);

    // The slider moves the maps.
    if (await evaluate("Boolean(document.querySelector('#tiles'))")) {
      const before = await evaluate(pixels);
      const state = await evaluate("document.querySelector('#state').textContent");
      await evaluate("(() => { const s = document.querySelector('#round'); s.value = s.max; s.dispatchEvent(new Event('input')); })()");
      assert.notEqual(await evaluate(pixels), before, "the slider moves the maps");
      assert.notEqual(await evaluate("document.querySelector('#state').textContent"), state);
      for (const view of ["raw", "top"]) {
        const shown = await evaluate(pixels);
        await evaluate(`document.querySelector("input[name=view][value=${view}]").click()`);
        assert.notEqual(await evaluate(pixels), shown, `view ${view} differs`);
      }
      await evaluate("document.querySelector('input[value=overlay]').click(); document.querySelector('#beside').click()");
      assert.ok(await evaluate("document.querySelectorAll('.tile:first-child canvas').length === 2"), "dense stands beside");
      await evaluate("document.querySelector('#beside').click()");
    }

    // Tables sort, numbers as numbers, both ways.
    const order = `(() => { const t = [...document.querySelectorAll("table.sortable")].find((t) => t.tBodies[0].rows[2]?.querySelector("td.n"));
      const column = [...t.tBodies[0].rows[2].cells].findLastIndex((c) => c.dataset.v !== undefined);
      t.tHead.rows[0].cells[column].querySelector("button").click();
      return [...t.tBodies[0].rows].map((r) => r.cells[column].dataset.v).filter((v) => v !== undefined).map(Number); })()`;
    const up = await evaluate(order);
    assert.deepEqual(up, [...up].sort((a, b) => a - b), "ascending");
    const down = await evaluate(order);
    assert.deepEqual(down, [...down].sort((a, b) => b - a), "descending");

    // Downloads.
    // A comparison has a figure of accuracy for each study.
    // The gate's page has no drawing to download.
    if (await evaluate("Boolean(document.querySelector('[data-download]'))")) {
      const figure = await evaluate(`(document.querySelector("figure#accuracy") ?? document.querySelector("figure[id*=accuracy]")).id`);
      await evaluate(`document.querySelectorAll("#${figure} [data-download]").forEach((button) => button.click())`);
      for (let turn = 0; turn < 100 && readdirSync(downloads).filter((f) => /\.(svg|csv)$/.test(f)).length < 2; turn++) {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      const svg = readFileSync(join(downloads, `${figure}.svg`), "utf8");
      assert.ok(svg.startsWith("<svg") && svg.includes("<style") && svg.includes("path"), "the SVG stands alone");
      assert.ok(await evaluate(`!new DOMParser().parseFromString(${JSON.stringify(svg)}, "image/svg+xml").querySelector("parsererror")`));
      assert.ok(readFileSync(join(downloads, `${figure}.csv`), "utf8").split("\n").length > 5, "the CSV has rows");
      readdirSync(downloads).forEach((file) => rmSync(join(downloads, file)));
    }
    // Every figure downloads: an SVG wherever something is drawn, and rows. Chromium holds back more than ten files without a reader's own click, so
    // what would be saved is read in the page.
    const saved = await evaluate(`(async () => {
      const [create, click] = [URL.createObjectURL, HTMLAnchorElement.prototype.click];
      const found = [];
      let blob;
      URL.createObjectURL = (given) => { blob = given; return "blob:null/none"; };
      HTMLAnchorElement.prototype.click = function () { found.push([this.download, blob]); };
      document.querySelectorAll("[data-download]").forEach((button) => button.click());
      [URL.createObjectURL, HTMLAnchorElement.prototype.click] = [create, click];
      const wanted = [...document.querySelectorAll("[data-download]")].map((b) => b.closest("figure").id + "." + b.dataset.download);
      return { wanted, texts: await Promise.all(found.map(async ([file, blob]) => [file, await blob.text()])) };
    })()`);
    assert.deepEqual(saved.texts.map(([file]) => file), saved.wanted, `${name}: a download for every button`);
    for (const [file, text] of saved.texts) {
      if (file.endsWith(".csv")) assert.ok(text.split("\n").length > 2, `${name}: ${file} has no rows`);
      else assert.match(text, /<(path|rect|circle|image)/, `${name}: ${file} is empty`);
    }

    // Nothing overflows, everything is named, contrast holds, in both themes and with every table open.
    assert.deepEqual(await evaluate(NAMELESS), [], "pictures without alternative text");
    for (const width of [1400, 380]) {
      await size(width);
      for (const scheme of ["light", "dark"]) {
        await theme(scheme);
        await screenshot(`${name}-${width}-${scheme}.png`, width);
        await evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })");
        const wide = await evaluate(`[...document.querySelectorAll("main *")].filter((node) => !node.closest(".scroll, pre, svg")
          && node.getBoundingClientRect().right > innerWidth + 0.5).map((node) => node.outerHTML.slice(0, 80))`);
        assert.deepEqual(wide, [], `${name} overflows at ${width}`);
        assert.ok(await evaluate("document.documentElement.scrollWidth <= innerWidth"), `${name} scrolls sideways at ${width}`);
        const { checked, poor } = await evaluate(CONTRAST);
        assert.ok(checked > 100);
        assert.deepEqual(poor, [], `${name}: poor contrast in ${scheme}`);
        await evaluate("document.querySelectorAll('details').forEach((d) => { d.open = false; })");
      }
    }
    assert.deepEqual(faults, [], `${name}: console errors`);
    assert.deepEqual(requests.filter((url) => !/^(file|data|blob):/.test(url)), [], `${name}: requests`);
  }
} finally {
  await browser.close();
}
