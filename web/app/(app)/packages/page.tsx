import type { Metadata } from "next";
import { filtersOf, type PackagePage, queryOf } from "@/features/packages/list";
import { PackageList } from "@/features/packages/package-list";
import { Problem } from "@/lib/problem";
import { openProject } from "@/lib/project";
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
  const { project } = await openProject();
  if (project === null) return <PackageList first={null} />;
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
