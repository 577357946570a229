import type { Schemas } from "@/lib/api";

export const SORTS = ["code", "-code", "-created_at", "planned_end", "-amount", "amount"] as const;
export type Sort = (typeof SORTS)[number];
export const PAGE = 100;

/** What a list of packages shows, as its address says it; the project is the one that is open. */
export type PackageFilters = { q: string; status: string; sort: Sort; without: string };

export function filtersOf(params: { get(name: string): string | null }): PackageFilters {
  const sort = params.get("sort");
  return {
    q: params.get("q") ?? "",
    status: params.get("status") ?? "",
    sort: SORTS.find((known) => known === sort) ?? "code",
    without: params.get("without") ?? "",
  };
}

/** The filters as the API takes them; what is not asked for is left out. */
export function queryOf(filters: PackageFilters, project: string): Record<string, string | number> {
  return {
    project,
    limit: PAGE,
    sort: filters.sort,
    ...(filters.q ? { q: filters.q } : {}),
    ...(filters.status ? { status: filters.status } : {}),
    ...(filters.without ? { without: filters.without } : {}),
  };
}

export type PackagePage = Schemas["PackagePage"];
