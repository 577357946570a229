import "server-only";
import { cookies } from "next/headers";
import { cache } from "react";
import type { Project, Schemas } from "@/lib/api";
import { COOKIES } from "@/lib/cookies";
import { load } from "@/lib/server";

/** The projects of the viewer, and the one that is open: asked once for a page, however many parts of it ask. */
export const openProject = cache(async (): Promise<{ projects: Project[]; project: Project | null }> => {
  const [kept, page] = [await cookies(), await load<Schemas["ProjectPage"]>("/projects?limit=200")];
  const chosen = kept.get(COOKIES.project)?.value;
  return {
    projects: page.items,
    project: page.items.find((one) => one.id === chosen) ?? page.items[0] ?? null,
  };
});
