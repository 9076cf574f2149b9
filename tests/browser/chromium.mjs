// Headless Chromium over its own protocol on a pipe: no dependency, no port.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export async function launch(executable) {
  const profile = mkdtempSync(join(tmpdir(), "ticketlens-chromium-"));
  const child = spawn(executable, [
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
    "--force-color-profile=srgb", "--disable-background-networking", `--user-data-dir=${profile}`, "about:blank",
  ], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
  const [send, receive] = [child.stdio[3], child.stdio[4]];
  let next = 1;
  const waiting = new Map();
  const listeners = [];
  let buffer = Buffer.alloc(0);
  receive.on("data", (chunk) => {
    buffer = Buffer.concat([buffer, chunk]);
    for (let end = buffer.indexOf(0); end >= 0; end = buffer.indexOf(0)) {
      const message = JSON.parse(buffer.subarray(0, end).toString());
      buffer = buffer.subarray(end + 1);
      if (message.id) {
        const { resolve, reject } = waiting.get(message.id);
        waiting.delete(message.id);
        if (message.error) reject(new Error(message.error.message));
        else resolve(message.result);
      } else listeners.forEach((listener) => listener(message));
    }
  });
  const call = (method, params = {}, sessionId) => new Promise((resolve, reject) => {
    const id = next++;
    waiting.set(id, { resolve, reject });
    send.write(JSON.stringify({ id, method, params, sessionId }) + "\0");
  });
  const { targetId } = await call("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
  const page = (method, params) => call(method, params, sessionId);
  const on = (name, handler) => listeners.push((message) => {
    if (message.method === name && message.sessionId === sessionId) handler(message.params);
  });
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await page("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  const until = async (expression, what) => {
    for (let turn = 0; turn < 200; turn++) {
      if (await evaluate(expression)) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`waited in vain for ${what}`);
  };
  const close = async () => {
    await call("Browser.close").catch(() => {});
    await new Promise((resolve) => { child.exitCode === null ? child.on("exit", resolve) : resolve(); });
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  };
  return { call, page, on, evaluate, until, close };
}
