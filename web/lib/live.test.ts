import { QueryClient } from "@tanstack/react-query";
import { describe, expect, it } from "vitest";
import { isChange, showChanges } from "@/lib/live";

describe("a change that is heard", () => {
  it("has the lists looked at anew that show such a record, and no others", () => {
    const client = new QueryClient();
    for (const key of ["packages", "tasks", "people", "timeline"]) client.setQueryData([key, "x"], 1);
    showChanges(client, [{ entity_type: "task", entity_id: "1", type: "task.patched" }]);
    const stale = ["packages", "tasks", "people", "timeline"].filter(
      (key) => client.getQueryState([key, "x"])?.isInvalidated,
    );
    expect(stale).toEqual(["tasks", "timeline"]);
  });
  it("is nothing else", () => {
    expect([isChange(null), isChange({}), isChange("x")]).toEqual([false, false, false]);
  });
});
