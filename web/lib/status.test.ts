import { describe, expect, it } from "vitest";
import { changedValues } from "@/lib/status";

function form(values: Record<string, string>): FormData {
  const data = new FormData();
  for (const [name, value] of Object.entries(values)) data.set(name, value);
  return data;
}

describe("changedValues", () => {
  it("holds only what was changed, and nothing for what was emptied", () => {
    const before = { title: "Bridge", amount: "5.00", currency: "EUR", description: "", owner_id: null };
    const typed = form({
      title: "Bridge ",
      amount: "",
      currency: "EUR",
      description: "long\n",
      owner_id: "",
    });
    expect(changedValues(typed, before)).toEqual({ amount: null, description: "long\n" });
  });
});
