"use client";

import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { api, said } from "@/lib/api";
import { useViewer } from "@/lib/viewer";

const LONG = 5 * 60_000;
const PAGE = 200;

/** The people whom the viewer may know, by name. */
export function usePeople() {
  return useQuery({
    queryKey: ["people"],
    staleTime: LONG,
    queryFn: async ({ signal }) =>
      (await said(api.GET("/api/v1/people", { params: { query: { limit: PAGE } }, signal }))).items,
  });
}

/** The vendors of the project. */
export function useVendors() {
  const { project } = useViewer();
  return useQuery({
    queryKey: ["parties", "vendors", project?.id],
    staleTime: LONG,
    enabled: project !== null,
    queryFn: async ({ signal }) =>
      (
        await said(
          api.GET("/api/v1/vendors", {
            params: { query: { limit: PAGE, project: project?.id ?? "" } },
            signal,
          }),
        )
      ).items,
  });
}

/** Names for the ids of people and vendors, as far as they are known by now. */
export function useNames(): ReadonlyMap<string, string> {
  const people = usePeople().data;
  const vendors = useVendors().data;
  return useMemo(
    () => new Map([...(people ?? []), ...(vendors ?? [])].map((one) => [one.id, one.name])),
    [people, vendors],
  );
}
