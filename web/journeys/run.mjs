// Walks through the product in a real browser, as people do. PMIS_WEB_URL names a fresh demo; PMIS_CHROMIUM the browser;
// PMIS_SCREENSHOTS, when given, a folder for what it looked like. Ends with 1 when a journey failed.
import { mkdir } from "node:fs/promises";
import { chromium } from "playwright-core";
import { journeys } from "./journeys.mjs";

const url = process.env.PMIS_WEB_URL;
const executablePath = process.env.PMIS_CHROMIUM ?? "/usr/bin/chromium";
const shots = process.env.PMIS_SCREENSHOTS;
if (!url) {
  console.error("PMIS_WEB_URL is not set: the address of a running demo, such as http://127.0.0.1:3000.");
  process.exit(2);
}
if (shots) await mkdir(shots, { recursive: true });

const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});

const only = process.argv.slice(2);
let failed = 0;
for (const [name, walk] of Object.entries(journeys)) {
  if (only.length > 0 && !only.some((part) => name.includes(part))) continue;
  const contexts = [];
  const errors = [];
  /** A browser of somebody's own: no cookie of anybody else's. */
  const someone = async (options = {}) => {
    const context = await browser.newContext({
      baseURL: url,
      viewport: { width: 1280, height: 860 },
      ...options,
    });
    contexts.push(context);
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error" && /Content Security Policy|Hydration|hydrat/i.test(message.text())) {
        errors.push(message.text());
      }
    });
    return page;
  };
  const shot = async (page, title) => {
    if (shots) await page.screenshot({ path: `${shots}/${title}.png` });
  };
  const began = performance.now();
  try {
    await walk({ someone, shot });
    if (errors.length > 0) throw new Error(`the page itself failed: ${errors.join(" | ")}`);
    console.log(`ok    ${name}  ${((performance.now() - began) / 1000).toFixed(1)} s`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}\n${error instanceof Error ? error.stack : error}`);
    const last = contexts.at(-1)?.pages()[0];
    if (shots && last) await last.screenshot({ path: `${shots}/failed-${name.replaceAll(/\W+/g, "-")}.png` });
  }
  await Promise.all(contexts.map((context) => context.close()));
}
await browser.close();
console.log(failed > 0 ? `${failed} journeys failed` : "all journeys went well");
process.exit(failed > 0 ? 1 : 0);
