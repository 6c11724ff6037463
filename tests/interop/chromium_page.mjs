// The built-in page in Chromium: node chromium_page.mjs http://127.0.0.1:8080 <screenshot-dir> [<option of Chromium>…]
//
// Two tabs, as two people would use them. Exit status 0 if all is well, 1 at the first failure, 2 if the whole takes
// too long. `tab-a.png` and `tab-b.png` are left in the directory in every case that gets as far as a tab.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { launch, limit, openTab } from "./chromium.mjs";

const DEADLINE_MS = 90_000; // for the whole script

const [base, directory, ...options] = process.argv.slice(2);
if (!base || !directory) {
  console.error("usage: node chromium_page.mjs <http-base-url> <screenshot-dir> [<option of Chromium>…]");
  process.exit(1);
}

let current = "start";
limit(DEADLINE_MS, () => current);

const troubles = [];

/** A tab with the page open and connected. */
async function open(context, name) {
  const own = ({ href }) => href === new URL(base).href;
  const page = await openTab(context, base, name, { troubles, own });
  await page.locator("#status", { hasText: /^connected$/ }).waitFor();
  return page;
}

const chip = (page, filter) => page.locator("#filters li", {
  has: page.getByRole("button", { name: `Unsubscribe from ${filter}`, exact: true }),
});

async function subscribe(page, filter) {
  await page.bringToFront(); // a tab in the background draws once a second
  await page.fill("#filter", filter);
  await page.click("#subscribe");
  await chip(page, filter).and(page.locator("[data-state=active]")).waitFor();
}

async function publish(page, topic, payload) {
  await page.bringToFront();
  await page.fill("#topic", topic);
  await page.fill("#payload", payload);
  await page.click("#publish");
}

/** What the page shows, newest first. */
const shown = (page) => page.locator("#messages > *").evaluateAll((rows) => (
  rows.map((row) => [row.dataset.topic, row.querySelector(".payload").textContent])
));

async function shows(page, wanted) {
  await page.bringToFront();
  await page.waitForFunction((count) => document.querySelectorAll("#messages > *").length >= count, wanted.length);
  assert.deepEqual(await shown(page), wanted);
}

const steps = {
  async "what one tab publishes appears in the other that subscribed"(a, b) {
    await subscribe(a, "room/#");
    await publish(b, "room/1", '{"hello": "tab a"}');
    await shows(a, [["room/1", '{"hello":"tab a"}']]);
    await publish(b, "room/1", "plain words");
    await shows(a, [["room/1", "plain words"], ["room/1", '{"hello":"tab a"}']]);
    await b.locator("#ack", { hasText: /\d ms/ }).waitFor();
    assert.deepEqual(await shown(b), [], "the publisher has not subscribed");
  },

  async "after unsubscribing only the other filters deliver"(a, b) {
    await subscribe(a, "marker");
    await a.click("#clear");
    await a.getByRole("button", { name: "Unsubscribe from room/#", exact: true }).click();
    await chip(a, "room/#").waitFor({ state: "detached" });
    // The broker takes the commands of a connection in order: this ok comes after that of the unsubscription.
    await subscribe(a, "after/unsubscribing");
    await publish(b, "room/1", "unseen");
    await publish(b, "marker", "seen");
    await shows(a, [["marker", "seen"]]);
  },

  async "topics and payloads of any characters are shown as they are, and never as markup"(a, b) {
    const odd = `größe & "quote" 'n' <b>bold</b> %2F 日本語 🌊`;
    const topic = `räume/${odd}/x y?z=1`;
    const payload = `<img src=x onerror="document.title='owned'"> \\ "  \u202eüñ🌊`;
    await subscribe(a, "räume/+/#");
    await subscribe(a, `+/${odd}/+`);
    await a.click("#clear");
    await publish(b, topic, payload);
    await shows(a, [[topic, payload]]);
    assert.equal(await a.locator("#messages img, #messages b").count(), 0, "markup from the network");
    assert.equal(await a.title(), "tidecast");
  },

  async "the page measures its own round trip and a burst"(a) {
    await a.click("#clear");
    await subscribe(a, "own/#");
    await publish(a, "own/1", "42");
    await a.locator("#latency", { hasText: /\d ms/ }).waitFor();
    // Watched from inside the page, because the figure is back at 0 a second after the burst.
    const rate = a.waitForFunction(() => /[1-9]/.test(document.querySelector("#rate").textContent));
    await a.click("#burst");
    await a.locator("#burst-result", { hasText: /^1,000 messages out and back in .* ms, in order/ }).waitFor();
    await rate;
    const rows = await shown(a);
    assert.ok(rows.length <= 200, `${rows.length} rows`);
  },

  async "a mistake is explained and changes nothing else"(a) {
    await a.fill("#filter", "bad/#/filter");
    await a.click("#subscribe");
    await a.locator("#notice", { hasText: /^bad\/#\/filter: Not a valid topic or filter/ }).waitFor();
    await chip(a, "bad/#/filter").waitFor({ state: "detached" });
    assert.equal(await a.textContent("#status"), "connected");
    await subscribe(a, "good/#");
    assert.ok(await a.locator("#notice").isHidden(), "the notice goes away with the next success");
  },

  async "the keyboard alone is enough"(_, b) {
    await b.bringToFront();
    await b.focus("#filter");
    await b.keyboard.press("Control+A");
    await b.keyboard.type("keys/+");
    await b.keyboard.press("Enter");
    await chip(b, "keys/+").and(b.locator("[data-state=active]")).waitFor();
    await b.fill("#topic", "keys/1");
    await b.focus("#payload");
    await b.keyboard.press("Control+A");
    await b.keyboard.type("typed");
    await b.keyboard.press("Control+Enter");
    await shows(b, [["keys/1", "typed"]]);
  },
};

await mkdir(directory, { recursive: true });
const browser = await launch(options);
const tabs = {};
let failed = false;
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  current = "opening the page in two tabs";
  tabs.a = await open(context, "tab a");
  tabs.b = await open(context, "tab b");
  for (const [claim, step] of Object.entries(steps)) {
    current = claim;
    await step(tabs.a, tabs.b);
    assert.deepEqual(troubles, [], "the browser complained");
    console.log(`ok: ${claim}`);
  }
} catch (error) {
  failed = true;
  console.error(`FAILED: ${current}\n${error.stack}`);
  for (const trouble of troubles) console.error(trouble);
}
for (const [name, page] of Object.entries(tabs)) {
  await page.bringToFront();
  await page.screenshot({ path: join(directory, `tab-${name}.png`) });
}
await browser.close();
process.exit(failed ? 1 : 0);
