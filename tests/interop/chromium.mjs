// What the scripts that drive Chromium have in common.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";

/** How long one thing may take to happen on a page, in milliseconds. */
const STEP_MS = 20_000;

const EXECUTABLE = "/usr/bin/chromium";
const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Starts Chromium, with more options if there are any. */
export const launch = (options = []) => chromium.launch({ executablePath: EXECUTABLE, args: [...ARGUMENTS, ...options], timeout: STEP_MS });

/** Ends the script with 2 after so many milliseconds; `where` tells how far it is. */
export function limit(milliseconds, where = () => "") {
  setTimeout(() => {
    console.error(`not done after ${milliseconds} ms${where() && `, in: ${where()}`}`);
    process.exit(2);
  }, milliseconds).unref();
}

/**
 * A tab with the page at `base` open, that notes among `troubles` whatever the browser complains about, but for what is to be
 * `expected`, and what it asks for that is not `own`.
 */
export async function openTab(context, base, name, { troubles, expected = () => false, own }) {
  const page = await context.newPage();
  page.setDefaultTimeout(STEP_MS);
  page.on("pageerror", (error) => troubles.push(`${name}: ${error.stack}`));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !expected(message.text())) troubles.push(`${name}: ${message.text()}`);
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (!own(url) && url.protocol !== "data:") troubles.push(`${name}: asked for ${url.href}`);
  });
  const response = await page.goto(base);
  assert.equal(response.status(), 200);
  assert.match(response.headers()["content-security-policy"] ?? "", /default-src 'none'/, "the page is served with a strict policy");
  return page;
}
