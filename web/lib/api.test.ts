import { HttpResponse, http } from "msw";
import { afterEach, describe, expect, it } from "vitest";
import { api, newIntent, said } from "@/lib/api";
import { attend, type Need } from "@/lib/gate";
import { Problem } from "@/lib/problem";
import { server } from "@/tests/setup";

const COMMENTS = "*/api/v1/comments";
const BODY = { body: "typed for an hour", entity_type: "package", entity_id: crypto.randomUUID() } as const;

function problem(status: number, code: string, headers: Record<string, string> = {}) {
  return HttpResponse.json({ code, detail: `it is ${code}`, correlation_id: "c-1" }, { status, headers });
}

let leave = () => {};
afterEach(() => leave());

function say() {
  return said(api.POST("/api/v1/comments", { params: { header: newIntent() }, body: BODY }));
}

/** An API that refuses the first request as `refuse` says, and takes the next; what it was sent, in order. */
function refusingOnce(status: number, code: string) {
  const sent: { key: string | null; body: unknown }[] = [];
  server.use(
    http.post(COMMENTS, async ({ request }) => {
      sent.push({ key: request.headers.get("idempotency-key"), body: await request.json() });
      return sent.length === 1
        ? problem(status, code)
        : HttpResponse.json({ outcome: "applied" }, { status: 201 });
    }),
  );
  return sent;
}

describe("a request that needs the person first", () => {
  it.each([
    [401, "unauthenticated", "sign-in"],
    [403, "step_up_needed", "step-up"],
  ] as const)("%d %s asks for %s, and goes again as it was", async (status, code, need) => {
    const asked: Need[] = [];
    leave = attend(async (one) => asked.push(one) > 0);
    const sent = refusingOnce(status, code);
    await expect(say()).resolves.toMatchObject({ outcome: "applied" });
    expect(asked).toEqual([need]);
    expect(sent).toHaveLength(2);
    expect(sent[1]).toEqual(sent[0]);
    expect(sent[1]?.body).toEqual(BODY);
    expect(sent[1]?.key).toBeTruthy();
  });

  it("is refused when the person does not want to", async () => {
    leave = attend(async () => false);
    const sent = refusingOnce(401, "unauthenticated");
    await expect(say()).rejects.toMatchObject({ code: "unauthenticated", status: 401 });
    expect(sent).toHaveLength(1);
  });

  it("asks once for all that need it at once", async () => {
    let asked = 0;
    let isIn = false;
    leave = attend(async () => {
      asked += 1;
      await new Promise((done) => setTimeout(done, 20));
      isIn = true;
      return true;
    });
    server.use(
      http.post(COMMENTS, () =>
        isIn ? HttpResponse.json({}, { status: 201 }) : problem(401, "unauthenticated"),
      ),
    );
    await Promise.all([say(), say(), say()]);
    expect(asked).toBe(1);
  });

  it("is refused where the role does not allow it, without asking", async () => {
    let asked = 0;
    leave = attend(async () => {
      asked += 1;
      return true;
    });
    refusingOnce(403, "forbidden");
    await expect(say()).rejects.toMatchObject({ code: "forbidden" });
    expect(asked).toBe(0);
  });
});

describe("a refusal", () => {
  it("says what, how long to wait, and which number to quote", async () => {
    server.use(http.post(COMMENTS, () => problem(429, "too_many_requests", { "retry-after": "7" })));
    const found = await say().catch((error: unknown) => error);
    expect(found).toBeInstanceOf(Problem);
    expect(found).toMatchObject({
      code: "too_many_requests",
      retryAfter: 7,
      correlationId: "c-1",
      isPassing: true,
    });
  });
  it("without a body we know is told by its status", async () => {
    server.use(http.post(COMMENTS, () => new HttpResponse("<html>", { status: 503 })));
    await expect(say()).rejects.toMatchObject({ code: "http_503", status: 503, isPassing: true });
  });
  it("names the field", async () => {
    server.use(
      http.post(COMMENTS, () =>
        HttpResponse.json(
          { code: "invalid_input", detail: "x", errors: [{ pointer: "/body", message: "too long" }] },
          { status: 422 },
        ),
      ),
    );
    const found = await say().catch((error: unknown) => error);
    expect(found instanceof Problem && found.of("body")).toBe("too long");
  });
  it("is told from a network without an answer", async () => {
    server.use(http.post(COMMENTS, () => HttpResponse.error()));
    await expect(say()).rejects.toMatchObject({ code: "offline", status: 0, isPassing: true });
  });
});
