"use client";

import { type QueryClient, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

/** What changed somewhere: the record's kind and id, not its content. */
export type Change = { entity_type: string; entity_id: string; type: string };

/** The lists that show each kind of record; what is not named is shown under its own name. */
const SHOWN: Readonly<Record<string, readonly string[]>> = {
  package: ["packages", "package", "timeline", "steps", "home"],
  task: ["tasks", "timeline", "home"],
  approval: ["approvals", "approval", "timeline", "home"],
  comment: ["comments", "timeline"],
  project: ["projects", "home"],
  party: ["parties"],
};
const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 30_000;
/** Changes that come together are looked at together. */
const GATHER = 150;

export function isChange(value: unknown): value is Change {
  return typeof value === "object" && value !== null && "entity_type" in value && "entity_id" in value;
}

/** Have the lists that show these changes looked at anew; what nobody looks at waits until somebody does. */
export function showChanges(client: QueryClient, changes: readonly Change[]): void {
  const stale = new Set(changes.flatMap((change) => SHOWN[change.entity_type] ?? [change.entity_type]));
  void client.invalidateQueries({ predicate: (query) => stale.has(String(query.queryKey[0])) });
}

/**
 * Hear what changes while the page is open; says whether it is heard. A stream that breaks is opened again, later and
 * later, and everything is looked at anew, as nobody knows what was missed.
 */
export function useLive(): boolean {
  const client = useQueryClient();
  const [isHeard, setHeard] = useState(false);

  useEffect(() => {
    let source: EventSource | null = null;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let gather: ReturnType<typeof setTimeout> | undefined;
    let wait = FIRST_WAIT;
    let wasOpen = false;
    const gathered: Change[] = [];

    const flush = () => {
      gather = undefined;
      showChanges(client, gathered.splice(0));
    };
    const open = () => {
      source = new EventSource("/api/v1/changes/stream");
      source.addEventListener("ready", () => {
        wait = FIRST_WAIT;
        setHeard(true);
        if (wasOpen) void client.invalidateQueries();
        wasOpen = true;
      });
      source.addEventListener("change", (event: MessageEvent<string>) => {
        const change: unknown = JSON.parse(event.data);
        if (!isChange(change)) return;
        gathered.push(change);
        gather ??= setTimeout(flush, GATHER);
      });
      source.onerror = () => {
        source?.close();
        setHeard(false);
        timer = setTimeout(open, wait);
        wait = Math.min(wait * 2, LONGEST_WAIT);
      };
    };
    open();
    return () => {
      source?.close();
      clearTimeout(timer);
      clearTimeout(gather);
    };
  }, [client]);

  return isHeard;
}
