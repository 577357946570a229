import { describe, expect, it } from "vitest";
import { ago, day, moment, money, today } from "@/lib/format";

const plain = (text: string) => text.replace(/[\u00a0\u202f]/g, " ");

describe("money", () => {
  it.each([
    ["1234567.5", "EUR", "en", "EUR 1,234,567.50"],
    ["1234567.5", "EUR", "de", "1.234.567,50 EUR"],
    ["0", "USD", "en", "USD 0.00"],
    ["-12.3", "USD", "en", "-USD 12.30"],
    ["1500", "JPY", "en", "JPY 1,500"],
    ["1500.25", "JPY", "en", "JPY 1,500.25"],
    ["0.1234", "USD", "en", "USD 0.1234"],
    // Beyond what a float holds: each digit stays.
    ["12345678901234567890.12", "USD", "en", "USD 12,345,678,901,234,567,890.12"],
  ])("writes %s %s in %s", (amount, currency, locale, text) => {
    expect(plain(money(amount, currency, locale))).toBe(text);
  });
});

describe("time", () => {
  it("takes a day as it is, wherever one is", () => {
    expect(day("2026-01-02", "en")).toBe("Jan 2, 2026");
  });
  it("tells a moment where the project is", () => {
    expect(plain(moment("2026-01-01T23:30:00Z", "en", "Asia/Tokyo"))).toBe("Jan 2, 2026, 8:30 AM");
  });
  it("knows that today is another day elsewhere", () => {
    const now = new Date("2026-01-01T23:30:00Z");
    expect([today("Asia/Tokyo", now), today("America/New_York", now)]).toEqual(["2026-01-02", "2026-01-01"]);
  });
  it.each([
    ["2026-01-01T10:00:00Z", "2 hours ago"],
    ["2026-01-01T11:59:40Z", "this minute"],
    ["2026-01-04T12:00:00Z", "in 3 days"],
  ])("says how far %s is", (iso, text) => {
    expect(ago(iso, "en", Date.parse("2026-01-01T12:00:00Z"))).toBe(text);
  });
});
