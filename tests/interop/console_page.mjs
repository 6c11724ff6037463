// The console of the control plane in Chromium: node console_page.mjs http://127.0.0.1:9091 ws://127.0.0.1:8080 <token> <screenshot-dir>
//
// As an operator would use it, with clients of another library. Exit status 0 if all is well, 1 at the first failure, 2 if the
// whole takes too long. Screenshots in light and dark, wide and narrow, are left in the directory.

import assert from "node:assert/strict";
import { join } from "node:path";
import { launch, limit, openTab } from "./chromium.mjs";
import WebSocket from "ws";

const DEADLINE_MS = 90_000; // for the whole script

const [base, broker, token, directory] = process.argv.slice(2);
if (!directory) {
  console.error("usage: node console_page.mjs <http-base-url> <ws-base-url> <token> <screenshot-dir>");
  process.exit(1);
}

let current = "start";
limit(DEADLINE_MS, () => current);

/** A client of the broker, and what it was told. */
async function client(...commands) {
  const socket = new WebSocket(`${broker}/ws`, ["tidecast.json.v1"]);
  const told = [];
  let wake = () => {};
  socket.on("message", (data) => { told.push(JSON.parse(data)); wake(); });
  const closed = new Promise((resolve) => socket.on("close", (code) => resolve(code)));
  const until = async (what) => {
    for (;;) {
      const found = told.find(what);
      if (found) return found;
      await new Promise((resolve) => { wake = resolve; });
    }
  };
  const hello = await until(([verb]) => verb === "hello");
  for (const [number, command] of commands.entries()) {
    socket.send(JSON.stringify([...command, { ref: number }]));
    await until(([verb, ref]) => verb === "ok" && ref === number);
  }
  return { socket, until, closed, name: hello[1].session };
}

const troubles = [];

function open(context, name) {
  // Without a token the first questions are refused, and so is what cannot be published; the browser notes that.
  const expected = (text) => /status of (401|422)/.test(text);
  const own = ({ origin }) => origin === new URL(base).origin;
  return openTab(context, base, name, { troubles, expected, own });
}

const steps = {
  async "without a token nothing is shown, and with it everything"(page) {
    await page.locator("#login").waitFor();
    await page.fill("#token", token);
    await page.keyboard.press("Enter");
    await page.locator("#state[data-state=ready]").waitFor();
    await page.locator("#workers tr").nth(1).waitFor();
    await page.locator("#about", { hasText: "tidecast" }).waitFor();
  },

  async "what clients subscribe to and who they are is listed, and can be searched"(page, { alice }) {
    await page.fill("#search", alice.name);
    await page.keyboard.press("Enter");
    await page.locator("#connections tr", { hasText: alice.name }).waitFor();
    await page.waitForFunction(() => document.querySelectorAll("#connections tr").length === 1);
    await page.fill("#prefix", "rooms/");
    await page.keyboard.press("Enter");
    await page.locator("#topics tr", { hasText: "rooms/#" }).waitFor();
  },

  async "what is published is shown as it is, and never as markup"(page, { bob }) {
    await page.fill("#filter", "rooms/#");
    await page.click("#tap");
    await page.locator("#tap-state", { hasText: "looking at rooms/#" }).waitFor();
    bob.socket.send(JSON.stringify(["pub", "rooms/1", '<img src=x onerror="document.title=1">']));
    await page.locator("#tapped li", { hasText: "<img src=x" }).waitFor();
    assert.equal(await page.locator("#tapped img").count(), 0);
  },

  async "the form publishes what is typed, byte for byte, and says what is wrong"(page, { alice }) {
    await page.fill("#topic", "rooms/2");
    await page.fill("#payload", '{"n":  12345678901234567891}');
    await page.locator("#publish button").click();
    await page.locator("#told[data-good]").waitFor();
    await alice.until((reply) => reply[0] === "msg" && reply[1] === "rooms/2" && reply[2].n > 1e19);
    await page.locator("#tapped li", { hasText: "rooms/2" }).locator("pre", { hasText: "12345678901234567891" }).waitFor();
    await page.fill("#payload", "{");
    await page.locator("#publish button").click();
    await page.locator("#told[data-bad]", { hasText: "not JSON" }).waitFor();
    await page.fill("#topic", "rooms/#");
    await page.selectOption("#kind", "text");
    await page.locator("#publish button").click();
    await page.locator("#told[data-bad]", { hasText: "wildcards" }).waitFor();
  },

  async "rates and the busiest topics are shown while something happens"(page, { bob }) {
    const busy = setInterval(() => bob.socket.send(JSON.stringify(["pub", "rooms/busy", 1])), 20);
    try {
      await page.locator("#top button", { hasText: "rooms/busy" }).waitFor();
      await page.waitForFunction(() => !document.querySelectorAll("#tiles dd")[3].textContent.startsWith("–"));
      for (const [scheme, width, height] of [["light", 1280, 1500], ["dark", 1280, 1500], ["light", 390, 844], ["dark", 390, 844]]) {
        await page.emulateMedia({ colorScheme: scheme });
        await page.setViewportSize({ width, height });
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.equal(wide, 0, `at ${width} pixels something sticks out by ${wide}`);
        await page.screenshot({ path: join(directory, `console-${scheme}-${width}.png`), fullPage: width < 1000 });
      }
      await page.setViewportSize({ width: 1280, height: 1500 });
    } finally {
      clearInterval(busy);
    }
  },

  async "by keyboard alone a connection is looked at, a subscription ended, and the connection closed"(page, { alice }) {
    await page.fill("#search", alice.name);
    await page.keyboard.press("Enter");
    await page.locator("#connections tr", { hasText: alice.name }).waitFor();
    await page.getByRole("button", { name: `Details of connection ${alice.name}` }).last().focus();
    await page.keyboard.press("Enter");
    await page.locator("#details[open] #subscribed tr", { hasText: "rooms/#" }).waitFor();
    await page.screenshot({ path: join(directory, "console-details.png") });
    await page.getByRole("button", { name: "End the subscription to rooms/#" }).focus();
    await page.keyboard.press("Enter");
    await page.locator("#subscribed", { hasText: "subscribes to nothing" }).waitFor();
    await alice.until((reply) => reply[0] === "err" && reply[3].includes("operator"));
    page.once("dialog", (dialog) => dialog.accept());
    await page.locator("#kick").focus();
    await page.keyboard.press("Enter");
    assert.equal(await alice.closed, 4101);
    await page.locator("#connections", { hasText: "There is no such connection." }).waitFor();
  },
};

const browser = await launch();
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 1500 } });
  const people = { alice: await client(["sub", "rooms/#"]), bob: await client() };
  const page = await open(context, "console");
  for (const [name, step] of Object.entries(steps)) {
    current = name;
    await step(page, people);
  }
  assert.deepEqual(troubles, []);
} catch (error) {
  console.error(`failed, in: ${current}\n${error.stack}`);
  if (troubles.length) console.error(troubles.join("\n"));
  process.exitCode = 1;
} finally {
  await browser.close();
  process.exit();
}
