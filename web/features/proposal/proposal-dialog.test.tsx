import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { HttpResponse, http } from "msw";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { NewPackage } from "@/features/packages/new-package";
import { server } from "@/tests/setup";
import { show } from "@/tests/world";

vi.mock("next/navigation", () => ({ useRouter: () => ({ push: vi.fn(), replace: vi.fn() }) }));

const PREVIEW = {
  route: "APPROVAL_REQUIRED",
  impact: "high",
  uncertainty: "low",
  score: 9,
  rule: "matrix",
  reasons: [{ rule: "matrix", text: "The amount is above the tier.", facts: {} }],
  facts: {},
  steps: [],
  order: "serial",
  outcome: "preview",
  diff: [
    {
      operation: "create",
      target_type: "package",
      target: crypto.randomUUID(),
      label: "Bridge",
      fields: [{ field: "amount", before: null, after: "5000000.00" }],
    },
  ],
  open_steps: [{ id: "one", roles: ["admin"], quorum: 2, missing: 2, ready: true }],
};

type Sent = { dryRun: boolean; key: string | null; body: Record<string, unknown> };

/** An API that judges a new package, and takes it; `refuse` answers instead where it gives an answer. */
function judging(refuse: (sent: Sent, count: number) => Response | undefined = () => undefined): Sent[] {
  const all: Sent[] = [];
  server.use(
    http.post("*/api/v1/packages", async ({ request }) => {
      const sent = {
        dryRun: new URL(request.url).searchParams.get("dry_run") === "true",
        key: request.headers.get("idempotency-key"),
        body: (await request.json()) as Record<string, unknown>,
      };
      all.push(sent);
      const refused = refuse(sent, all.length);
      if (refused) return refused as HttpResponse<string>;
      if (sent.dryRun) return HttpResponse.json(PREVIEW);
      return HttpResponse.json(
        { outcome: "pending", approval: { id: "a1" }, resource: null },
        { status: 202 },
      );
    }),
  );
  return all;
}

function refusal(status: number, code: string, more: object = {}, headers: Record<string, string> = {}) {
  return HttpResponse.json(
    { code, detail: `Refused: ${code}.`, correlation_id: "c-9", ...more },
    { status, headers },
  );
}

beforeEach(() => {
  for (const list of ["people", "vendors"]) {
    server.use(http.get(`*/api/v1/${list}`, () => HttpResponse.json({ items: [], next: null })));
  }
});

async function fill(title: string) {
  const user = userEvent.setup();
  const onClose = vi.fn();
  show(<NewPackage onClose={onClose} />);
  await user.type(screen.getByLabelText("Title"), title);
  return { user, onClose };
}

const press = (user: ReturnType<typeof userEvent.setup>, name: string) =>
  user.click(screen.getByRole("button", { name }));

describe("a proposal", () => {
  it("is shown with its difference and who must agree before it is sent, and is sent once", async () => {
    const sent = judging();
    const { user, onClose } = await fill("Bridge");
    await press(user, "See what will happen");
    expect(await screen.findByText("This waits until it is agreed.")).toBeTruthy();
    expect(screen.getByText("5000000.00")).toBeTruthy();
    expect(screen.getByText("2 of: Administrator")).toBeTruthy();
    expect(sent).toHaveLength(1);
    await press(user, "Send the proposal");
    await waitFor(() => expect(onClose).toHaveBeenCalledOnce());
    expect(sent.map((one) => one.dryRun)).toEqual([true, false]);
    expect(sent[1]?.body).toEqual(sent[0]?.body);
  });

  it.each([
    [
      422,
      "invalid_input",
      { errors: [{ pointer: "/title", message: "At most 200 characters." }] },
      {},
      "At most 200 characters.",
    ],
    [409, "busy", {}, {}, "Somebody else is changing the same record."],
    [412, "stale_version", {}, {}, "This was changed by somebody else meanwhile."],
    [429, "too_many_requests", {}, { "retry-after": "3" }, "Try again in 3 seconds."],
    [500, "internal", {}, {}, "nothing was changed"],
    [403, "forbidden", {}, {}, "Refused: forbidden."],
  ] as const)(
    "refused with %d %s says so, and keeps what was typed",
    async (status, code, more, headers, text) => {
      judging(() => refusal(status, code, more, headers));
      const { user, onClose } = await fill("A long title");
      await press(user, "See what will happen");
      expect((await screen.findAllByText(new RegExp(text.replace(".", "\\.")))).length).toBeGreaterThan(0);
      expect((screen.getByLabelText("Title") as HTMLInputElement).value).toBe("A long title");
      expect(screen.getByText(/c-9/)).toBeTruthy();
      expect(onClose).not.toHaveBeenCalled();
    },
  );

  it("marks the field that is wrong for those who hear the page", async () => {
    judging(() => refusal(422, "invalid_input", { errors: [{ pointer: "/title", message: "Too long." }] }));
    const { user } = await fill("x");
    await press(user, "See what will happen");
    await screen.findByText("Too long.");
    const title = screen.getByLabelText("Title");
    expect(title.getAttribute("aria-invalid")).toBe("true");
    expect(document.getElementById(title.getAttribute("aria-describedby") ?? "")?.textContent).toBe(
      "Too long.",
    );
  });

  it("sent again after an answer that got lost carries the same key", async () => {
    const sent = judging((one, count) => (!one.dryRun && count === 2 ? HttpResponse.error() : undefined));
    const { user, onClose } = await fill("Bridge");
    await press(user, "See what will happen");
    await screen.findByText("This waits until it is agreed.");
    await press(user, "Send the proposal");
    await screen.findByText(/cannot be reached/);
    await press(user, "Send the proposal");
    await waitFor(() => expect(onClose).toHaveBeenCalledOnce());
    expect(sent).toHaveLength(3);
    expect(sent[2]?.key).toBe(sent[1]?.key);
    expect(sent[2]?.key).not.toBe(sent[0]?.key);
  });
});
