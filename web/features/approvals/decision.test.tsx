import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { HttpResponse, http } from "msw";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { Decision } from "@/features/approvals/decision";
import { byWeight } from "@/features/approvals/inbox";
import type { Approval } from "@/lib/api";
import { server } from "@/tests/setup";
import { ANA, show } from "@/tests/world";

vi.mock("next/navigation", () => ({
  useRouter: () => ({ push: vi.fn(), replace: vi.fn() }),
  useSearchParams: () => new URLSearchParams(),
}));

const WAITING = {
  id: "00000000-0000-7000-8000-0000000000a1",
  version: 1,
  status: "pending",
  route: "APPROVAL_REQUIRED",
  target_type: "package",
  target_id: crypto.randomUUID(),
  label: "DEM-3: award",
  reason: "The best offer.",
  proposer: { name: "Omar Operator", person_id: crypto.randomUUID() },
  created_at: "2026-01-02T10:00:00Z",
  expires_at: null,
  digest: "sha256:abc",
  decision: { score: 12, rule: "award", reasons: [] },
  changes: [{ operation: "transition" }],
  diff: [],
  open_steps: [],
  verdicts: [],
};

type Said = { verb: string; body: unknown };

function deciding(one: object, refuse?: () => HttpResponse<{ code: string; detail: string }>): Said[] {
  const all: Said[] = [];
  server.use(
    http.get(`*/api/v1/approvals/${WAITING.id}`, () =>
      HttpResponse.json(all.length > 0 ? { ...one, status: "applied" } : one),
    ),
    http.post(`*/api/v1/approvals/${WAITING.id}/:verb`, async ({ params, request }) => {
      const refused = refuse?.();
      if (refused) return refused;
      all.push({ verb: String(params.verb), body: await request.json() });
      return HttpResponse.json({ ...one, status: "applied" });
    }),
  );
  return all;
}

beforeEach(() => {
  for (const list of ["people", "vendors"]) {
    server.use(http.get(`*/api/v1/${list}`, () => HttpResponse.json({ items: [], next: null })));
  }
});

describe("a decision", () => {
  it("by key says yes to exactly what was shown", async () => {
    const said = deciding(WAITING);
    show(<Decision id={WAITING.id} />);
    await screen.findByText("The best offer.");
    await userEvent.keyboard("a");
    await waitFor(() =>
      expect(said).toEqual([{ verb: "approve", body: { digest: "sha256:abc", reason: null } }]),
    );
    await waitFor(() => expect(screen.queryByRole("button", { name: /Approve/ })).toBeNull());
  });

  it("against it needs a reason, which is asked for and sent", async () => {
    const said = deciding(WAITING);
    show(<Decision id={WAITING.id} />);
    await screen.findByText("The best offer.");
    await userEvent.keyboard("r");
    await userEvent.click(screen.getByRole("button", { name: "Send" }));
    expect(screen.getByText("Say why: the proposer reads it.")).toBeTruthy();
    expect(said).toEqual([]);
    await userEvent.type(screen.getByLabelText("Reason"), "Too dear");
    await userEvent.click(screen.getByRole("button", { name: "Send" }));
    await waitFor(() =>
      expect(said).toEqual([{ verb: "reject", body: { digest: "sha256:abc", reason: "Too dear" } }]),
    );
  });

  it("that is refused says why and decides nothing", async () => {
    deciding(WAITING, () =>
      HttpResponse.json({ code: "decision_refused", detail: "You have decided already." }, { status: 403 }),
    );
    show(<Decision id={WAITING.id} />);
    await screen.findByText("The best offer.");
    await userEvent.keyboard("a");
    expect(await screen.findByText("You have decided already.")).toBeTruthy();
    expect(screen.getByRole("button", { name: /Approve/ })).toBeTruthy();
  });

  it("about one's own proposal is not offered, only to take it back", async () => {
    const said = deciding({ ...WAITING, proposer: { name: ANA.name, person_id: ANA.id } });
    show(<Decision id={WAITING.id} />);
    await screen.findByText("You proposed this: somebody else decides it.");
    await userEvent.keyboard("a");
    expect(screen.queryByRole("button", { name: /Approve/ })).toBeNull();
    expect(screen.getByRole("button", { name: "Withdraw" })).toBeTruthy();
    expect(said).toEqual([]);
  });
});

describe("the inbox", () => {
  it("has the riskiest first, and of those the oldest", () => {
    const one = (score: number, day: string) =>
      ({
        decision: { score },
        created_at: `2026-01-0${day}T00:00:00Z`,
        label: `${score}/${day}`,
      }) as unknown as Approval;
    const sorted = [one(1, "1"), one(9, "3"), one(9, "2")].toSorted(byWeight).map((each) => each.label);
    expect(sorted).toEqual(["9/2", "9/3", "1/1"]);
  });
});
