import { afterEach, describe, expect, it, vi } from "vitest";
import { forwardedHeaders } from "@/lib/forward";

afterEach(() => vi.unstubAllEnvs());

const GIVEN = {
  cookie: "__Host-pmis=1",
  host: "pmis.example",
  origin: "https://pmis.example",
  "idempotency-key": "k",
  "x-user-id": "somebody",
  "x-user-role": "admin",
  "x-proxy-secret": "guessed",
  "x-forwarded-for": "203.0.113.9",
  connection: "keep-alive",
};

describe("what goes on to the API", () => {
  it("is what the browser said, without what would make it somebody else", () => {
    const sent = Object.fromEntries(forwardedHeaders(new Headers(GIVEN)));
    expect(sent).toEqual({
      cookie: "__Host-pmis=1",
      host: "pmis.example",
      origin: "https://pmis.example",
      "idempotency-key": "k",
      "accept-encoding": "identity",
    });
  });
  it("shows our own secret, never the caller's", () => {
    vi.stubEnv("PMIS_PROXY_SECRET", "ours");
    expect(forwardedHeaders(new Headers(GIVEN)).get("x-proxy-secret")).toBe("ours");
  });
  it("says where a request came from only where a proxy in front is believed", () => {
    vi.stubEnv("PMIS_WEB_BEHIND_PROXY", "1");
    expect(forwardedHeaders(new Headers(GIVEN)).get("x-forwarded-for")).toBe("203.0.113.9");
  });
});
