import { describe, expect, it } from "vitest";
import { safeNext } from "@/features/session/safe-next";

describe("safeNext", () => {
  it.each([
    [null, "/"],
    ["/packages?status=draft", "/packages?status=draft"],
    ["https://elsewhere.example/", "/"],
    ["//elsewhere.example", "/"],
    ["/\\elsewhere.example", "/"],
    ["javascript:alert(1)", "/"],
    ["/\t/elsewhere.example", "/"],
  ])("of %s is %s", (asked, next) => {
    expect(safeNext(asked)).toBe(next);
  });
});
