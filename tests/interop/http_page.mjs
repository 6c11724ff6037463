// Plain HTTP from pages in Chromium: node http_page.mjs http://127.0.0.1:8080
//
// The broker has to let in pages of http://listed.example:<any port> and no other origin; its own page does not count. Exit status 0 if
// all is well, 1 at the first failure, 2 if the whole takes too long.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import { launch, limit } from "./chromium.mjs";

const DEADLINE_MS = 60_000; // for the whole script
const [base] = process.argv.slice(2);
if (!base) {
  console.error("usage: node http_page.mjs <http-base-url>");
  process.exit(1);
}
limit(DEADLINE_MS);

/** In the page: a stream is opened, each message is posted, and what is heard is given back. */
async function listen([url, messages]) {
  const heard = [];
  const events = new EventSource(url);
  await new Promise((resolve, reject) => {
    events.onopen = resolve;
    events.onerror = () => reject(new Error("the stream was not opened"));
  });
  const all = new Promise((resolve) => {
    const note = (event) => {
      heard.push([event.type, event.data]);
      if (heard.length === messages.length) resolve();
    };
    events.onmessage = note;
    events.addEventListener("binary", note);
  });
  const answers = [];
  for (const [type, body] of messages) {
    const headers = { "Content-Type": type, Authorization: "Bearer nobody-looks-at-it" };
    const response = await fetch(url, { method: "POST", headers, body });
    answers.push([response.status, await response.json()]);
  }
  await all;
  events.close();
  return { heard, answers };
}

/** In the page: what a page gets to see that may not. */
async function tryToListen(url) {
  const events = new EventSource(url);
  const failed = await new Promise((resolve) => {
    events.onopen = () => resolve(false);
    events.onerror = () => resolve(events.readyState === EventSource.CLOSED);
  });
  const posts = [];
  for (const headers of [{}, { "Content-Type": "application/json" }]) {
    posts.push(await fetch(url, { method: "POST", headers, body: "1" }).then((response) => response.status, () => "failed"));
  }
  return { failed, posts };
}

const browser = await launch(["--host-resolver-rules=MAP *.example 127.0.0.1"]);
const pages = createServer((_, response) => response.end("<!doctype html>")).listen(0, "127.0.0.1");
await once(pages, "listening");
try {
  const open = async (host) => {
    const page = await browser.newPage();
    await page.goto(`http://${host}:${pages.address().port}/`);
    return page;
  };
  const url = `${base}/t/pages%2Fa`;
  const page = await open("listed.example");
  const { heard, answers } = await page.evaluate(listen, [url, [
    ["application/json", '{"a":\n1}'],
    ["text/plain", "zeilen\nmit ü\n"],
    ["application/octet-stream", "bytes"],
    ["application/json", '"last"'],
  ]]);
  assert.deepEqual(heard, [
    ["message", '{"a":\n1}'],
    ["message", "zeilen\nmit ü\n"],
    ["binary", "Ynl0ZXM="],
    ["message", '"last"'],
  ]);
  assert.deepEqual(answers, Array(4).fill([202, { topic: "pages/a" }]));
  const bad = await page.evaluate(async (url) => {
    const headers = { "Content-Type": "application/json" };
    const response = await fetch(url, { method: "POST", headers, body: "{" });
    return [response.status, (await response.json()).error.code];
  }, url);
  assert.deepEqual(bad, [400, "bad_message"], "a page that may publish may read why something is refused");

  const stranger = await open("other.example");
  assert.deepEqual(await stranger.evaluate(tryToListen, url), { failed: true, posts: ["failed", "failed"] });
} finally {
  await browser.close();
  pages.close();
}
