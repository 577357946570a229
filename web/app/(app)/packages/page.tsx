import type { Metadata } from "next";
import { cookies } from "next/headers";
import { filtersOf, type PackagePage, queryOf } from "@/features/packages/list";
import { PackageList } from "@/features/packages/package-list";
import type { Schemas } from "@/lib/api";
import { COOKIES } from "@/lib/cookies";
import { Problem } from "@/lib/problem";
import { load } from "@/lib/server";

export const metadata: Metadata = { title: "Packages" };

/** The first rows come with the page; the browser goes on from there. */
export default async function Page({
  searchParams,
}: {
  searchParams: Promise<Record<string, string | string[]>>;
}) {
  const asked = Object.entries(await searchParams).flatMap(([name, value]) =>
    typeof value === "string" ? [[name, value] as [string, string]] : [],
  );
  const filters = filtersOf(new URLSearchParams(asked));
  const chosen = (await cookies()).get(COOKIES.project)?.value;
  const projects = await load<Schemas["ProjectPage"]>("/projects?limit=200");
  const project = projects.items.find((one) => one.id === chosen) ?? projects.items[0];
  if (project === undefined) return <PackageList first={null} />;
  const query = new URLSearchParams(
    Object.entries(queryOf(filters, project.id)).map(([name, value]) => [name, String(value)]),
  );
  // A filter that the API refuses is told where the list would stand.
  const page = await load<PackagePage>(`/packages?${query}`).catch((error: unknown) => {
    if (error instanceof Problem) return null;
    throw error;
  });
  return <PackageList first={page ? { filters, page } : null} />;
}
