import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const PASSWORD = "demo-demo-demo";
const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

async function signIn(page, who, next = "/") {
  await page.goto(`/sign-in?next=${encodeURIComponent(next)}`);
  await page.getByLabel("E-mail").fill(`${who}@demo.example`);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL((url) => url.pathname === next.split("?")[0]);
  await page.getByRole("heading", { level: 1 }).waitFor();
}

/** What a page asks the API, in the page's own name. */
function ask(page, path) {
  return page.evaluate(async (asked) => (await fetch(`/api/v1${asked}`)).json(), path);
}

const reviewed = async (page) => {
  const { items } = await ask(page, "/packages?status=in_review&limit=50");
  const found = items.find((one) => one.amount !== null);
  assert.ok(found, "the demo has a package in review");
  return found;
};

/** Puts a line into the reason, looks at what would happen, and sends it. */
async function sendProposal(page, reason) {
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel(/^Why/).fill(reason);
  await dialog.getByRole("button", { name: "See what will happen" }).click();
  await dialog.getByRole("button", { name: "Send the proposal" }).click();
  await dialog.waitFor({ state: "detached" });
}

async function noSeriousFault(page, where) {
  // The tool is put in from outside: the page's own policy would not let it in.
  await page.evaluate(AXE);
  const found = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    return violations
      .filter((one) => ["serious", "critical"].includes(one.impact))
      .map(
        (one) =>
          `${one.id}: ${one.nodes.map((node) => `${node.target} (${node.failureSummary})`).join("; ")}`,
      );
  });
  assert.deepEqual(found, [], where);
}

const PAGES = [
  "/",
  "/packages",
  "/packages/board",
  "/approvals?view=open",
  "/tasks?view=all",
  "/chat",
  "/audit",
];

export const journeys = {
  async "sign-in: refused, then taken, and back to where one wanted to go"({ someone, shot }) {
    const page = await someone();
    await page.goto("/packages?status=draft");
    await page.waitForURL(/sign-in/);
    await shot(page, "sign-in");
    await page.getByLabel("E-mail").fill("analyst@demo.example");
    await page.getByLabel("Password").fill("not-the-password");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.locator("form [role=alert]").waitFor();
    assert.equal(await page.getByLabel("E-mail").inputValue(), "analyst@demo.example");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL(/packages\?status=draft/);
    assert.equal(await page.getByLabel("Status").inputValue(), "draft");
    assert.equal(await page.evaluate(() => document.cookie), "", "no script reads the session");
  },

  async "first look: every page"({ someone, shot }) {
    const page = await someone();
    await signIn(page, "admin");
    for (const path of PAGES) {
      await page.goto(path);
      await page.waitForLoadState("load");
      await page.waitForTimeout(600);
      await shot(page, `page${path.replaceAll(/\W+/g, "-")}`);
    }
  },

  async "propose, approve as somebody else, applied, seen by both at once"({ someone, shot }) {
    const ana = await someone();
    await signIn(ana, "analyst");
    const one = await reviewed(ana);
    await ana.goto(`/packages/${one.code}`);
    await ana.locator(".live[data-heard=true]").waitFor();
    await shot(ana, "package");
    await ana.getByRole("button", { name: "Propose: Approved" }).click();
    const dialog = ana.getByRole("dialog");
    await dialog.getByLabel(/^Why/).fill("All three offers were read.");
    await dialog.getByRole("button", { name: "See what will happen" }).click();
    await dialog.getByText("This waits until it is agreed.").waitFor();
    await shot(ana, "proposal");
    await dialog.getByRole("button", { name: "Send the proposal" }).click();
    await dialog.waitFor({ state: "detached" });

    await ana.goto("/approvals?view=open");
    await ana
      .getByRole("link", { name: new RegExp(one.code) })
      .first()
      .click();
    await ana.getByText("You proposed this: somebody else decides it.").waitFor();
    assert.equal(await ana.getByRole("button", { name: /^Approve/ }).count(), 0);
    await ana.goto(`/packages/${one.code}`);
    await ana.locator(".live[data-heard=true]").waitFor();

    const ada = await someone();
    await signIn(ada, "admin", "/approvals");
    await ada
      .getByRole("link", { name: new RegExp(one.code) })
      .first()
      .click();
    await ada.getByText("All three offers were read.").waitFor();
    await shot(ada, "approval");
    await ada.keyboard.press("a");
    await ana.locator(".page-head .badge", { hasText: "Approved" }).waitFor({ timeout: 5_000 });
  },

  async "a change that was overtaken is told, and can be made anew"({ someone }) {
    const ana = await someone();
    await signIn(ana, "analyst");
    const { items } = await ask(ana, "/packages?status=draft&limit=5");
    const one = items[0];
    await ana.goto(`/packages/${one.code}`);
    await ana.getByRole("button", { name: "Propose a change" }).click();
    const dialog = ana.getByRole("dialog");
    await dialog.getByLabel("Title").fill("As Ana wants it");
    // Meanwhile, with the dialog open, somebody else changes the same record; the stream of changes is cut off first,
    // as on a bad line.
    await ana.route("**/changes/stream", (route) => route.abort());
    const omar = await someone();
    await signIn(omar, "operator");
    await omar.goto(`/packages/${one.code}`);
    await omar.getByRole("button", { name: "Propose a change" }).click();
    await omar.getByRole("dialog").getByLabel("Description").fill("As Omar wants it");
    await sendProposal(omar, "a word more");
    await dialog.getByRole("button", { name: "See what will happen" }).click();
    const told = dialog.getByText(/changed by somebody else/).or(dialog.getByText("As Ana wants it"));
    await told.first().waitFor();
    assert.equal(await dialog.getByLabel("Title").inputValue(), "As Ana wants it", "nothing typed is lost");
  },

  async "a session that ends in the middle of a form: nothing typed is lost"({ someone, shot }) {
    const page = await someone();
    await signIn(page, "analyst", "/packages");
    await page.getByRole("button", { name: "New package" }).click();
    const dialog = page.getByRole("dialog").first();
    await dialog.getByLabel("Title").fill("Typed for a long time");
    await page.context().clearCookies();
    await dialog.getByRole("button", { name: "See what will happen" }).click();
    const gate = page.getByRole("dialog", { name: "Your session has ended" });
    await gate.waitFor();
    await shot(page, "session-ended");
    await gate.getByLabel("E-mail").fill("operator@demo.example");
    await gate.getByLabel("Password").fill(PASSWORD);
    await gate.getByRole("button", { name: "Sign in" }).click();
    await gate.getByText(/somebody else's account/).waitFor();
    await gate.getByLabel("E-mail").fill("analyst@demo.example");
    await gate.getByRole("button", { name: "Sign in" }).click();
    await dialog.getByText("This is applied at once.").waitFor();
    await dialog.getByRole("button", { name: "Send the proposal" }).click();
    await page.waitForURL(/packages\/\w+-?\d+/);
    await page.getByRole("heading", { name: "Typed for a long time" }).waitFor();
  },

  async "a question to the assistant, and a wish that becomes a proposal"({ someone, shot }) {
    const page = await someone();
    await signIn(page, "analyst", "/chat");
    await page.getByRole("button", { name: "Totals by status" }).click();
    await page.locator(".talk [data-who=it]", { hasText: "Amounts by status" }).waitFor();
    const { items } = await ask(page, "/packages?status=active&limit=5");
    await page.getByLabel("Your question or request").fill(`put ${items[0].code} on hold`);
    await page.keyboard.press("Enter");
    await page.locator(".talk .notice").waitFor();
    await shot(page, "chat");
  },

  async "the log is verified from the page"({ someone, shot }) {
    const page = await someone();
    await signIn(page, "admin", "/audit");
    await page.getByRole("button", { name: "Verify now" }).click();
    await page.getByText(/The log is whole/).waitFor({ timeout: 60_000 });
    await shot(page, "audit-verified");
  },

  async "a token for a program: made, shown once, revoked; and another session ended"({ someone, shot }) {
    const page = await someone();
    await signIn(page, "operator", "/profile");
    await page.getByRole("button", { name: "New token" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("What it is for").fill("nightly report");
    await dialog.getByRole("button", { name: "Make it" }).click();
    const gate = page.getByRole("dialog", { name: /Prove again/ });
    const token = dialog.locator("output");
    await token.or(gate).first().waitFor();
    assert.match((await token.textContent()) ?? "", /^pmis/);
    await shot(page, "profile-token");
    await dialog.getByRole("button", { name: "Close" }).last().click();
    await page.getByText("nightly report").waitFor();
    const other = await someone();
    await signIn(other, "operator");
    await page.reload();
    const tokens = page.getByRole("region", { name: "API tokens" });
    await tokens.getByRole("button", { name: "Revoke" }).click();
    await tokens.getByText("nightly report").waitFor({ state: "detached" });
    const ends = page.getByRole("button", { name: "Sign out there" });
    while ((await ends.count()) > 0) {
      const before = await ends.count();
      await ends.first().click();
      await page.waitForFunction(
        (count) =>
          [...document.querySelectorAll("button")].filter((one) => one.textContent === "Sign out there")
            .length < count,
        before,
      );
    }
    await other.goto("/packages");
    await other.waitForURL(/sign-in/);
  },

  async "as it was: a day before it began, and back to now"({ someone }) {
    const page = await someone();
    await signIn(page, "viewer", "/packages");
    await page.locator(".sheet-row a").first().click();
    await page.getByRole("heading", { name: "Overview" }).waitFor();
    assert.equal(
      await page.getByRole("button", { name: "Propose a change" }).count(),
      0,
      "a viewer only reads",
    );
    await page.getByRole("slider").press("Home");
    await page.waitForTimeout(300);
    assert.equal(await page.locator(".notice[role=alert]").count(), 0);
  },

  async "by keyboard alone: find a package, propose, decide"({ someone, shot }) {
    const page = await someone();
    await signIn(page, "operator");
    await page.keyboard.press("Control+k");
    await page.getByPlaceholder(/Type a page/).waitFor();
    await shot(page, "palette");
    await page.keyboard.type("Approvals");
    await page.locator("[cmdk-item][data-selected=true]", { hasText: "Approvals" }).waitFor();
    await page.keyboard.press("Enter");
    await page.waitForURL(/approvals/);
    await page.keyboard.press("g");
    await page.keyboard.press("p");
    await page.waitForURL(/packages/);
    await page.locator(".sheet-row").first().waitFor();
    await page.keyboard.press("/");
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("type")), "search");
    await page.keyboard.press("?");
    assert.equal(await page.getByRole("dialog").count(), 0, "what is typed is no shortcut");
    await page.keyboard.press("Backspace");
    for (let steps = 0; steps < 40; steps += 1) {
      await page.keyboard.press("Tab");
      if (await page.evaluate(() => document.activeElement?.closest(".sheet-row") !== null)) break;
    }
    await page.keyboard.press("j");
    await page.waitForTimeout(100);
    await page.keyboard.press("Enter");
    await page.waitForURL(/packages\/.+/);
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keyboard" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
  },

  async "no serious fault for those who do not see it, light and dark"({ someone }) {
    for (const colorScheme of ["light", "dark"]) {
      const page = await someone({ colorScheme });
      await page.goto("/sign-in");
      await noSeriousFault(page, `sign-in, ${colorScheme}`);
      await signIn(page, "admin");
      const { items } = await ask(page, "/packages?limit=1");
      for (const path of [...PAGES, `/packages/${items[0].code}`]) {
        await page.goto(path);
        await page.getByRole("heading", { level: 1 }).waitFor();
        await page.waitForTimeout(500);
        await noSeriousFault(page, `${path}, ${colorScheme}`);
      }
      await page.keyboard.press("Control+k");
      await page.getByPlaceholder(/Type a page/).waitFor();
      await noSeriousFault(page, `palette, ${colorScheme}`);
    }
  },

  async "on a phone, and with everything twice as large: nothing hangs over the edge"({ someone, shot }) {
    const page = await someone({ viewport: { width: 360, height: 740 }, colorScheme: "dark" });
    await signIn(page, "admin");
    const { items } = await ask(page, "/packages?limit=1");
    for (const path of [...PAGES, `/packages/${items[0].code}`]) {
      await page.goto(path);
      await page.getByRole("heading", { level: 1 }).waitFor();
      await page.waitForTimeout(400);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(wide <= 0, `${path} is ${wide} px wider than the phone`);
      await shot(page, `phone${path.replaceAll(/\W+/g, "-")}`);
    }
  },

  async "in German"({ someone, shot }) {
    const page = await someone({ locale: "de-DE" });
    await page.goto("/sign-in");
    await page.getByLabel("Passwort").waitFor();
    await page.getByLabel("E-Mail").fill("admin@demo.example");
    await page.getByLabel("Passwort").fill(PASSWORD);
    await page.getByRole("button", { name: "Anmelden" }).click();
    await page.getByRole("link", { name: /Freigaben/ }).waitFor();
    await page.goto("/packages");
    await page.getByRole("heading", { name: "Pakete" }).waitFor();
    await shot(page, "german");
  },
};
