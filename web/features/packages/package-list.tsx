"use client";

import { type InfiniteData, useInfiniteQuery } from "@tanstack/react-query";
import { useVirtualizer } from "@tanstack/react-virtual";
import Link from "next/link";
import { usePathname, useRouter, useSearchParams } from "next/navigation";
import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { SelectField, TextField } from "@/components/field";
import { ProblemNotice } from "@/components/problem-notice";
import { Day, Empty, Money, Skeleton, StatusBadge, useStatusWord } from "@/components/show";
import { filtersOf, type PackageFilters, type PackagePage, queryOf, SORTS } from "@/features/packages/list";
import { NewPackage } from "@/features/packages/new-package";
import { api, type Package, said } from "@/lib/api";
import { useNames } from "@/lib/names";
import { PACKAGE_STATUSES } from "@/lib/status";
import { useViewer } from "@/lib/viewer";

const ROWS = { comfortable: 44, compact: 34, narrow: 72 };
const AHEAD = 20;
const TYPING = 250;

function sameFilters(one: PackageFilters, other: PackageFilters): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function usePackages(filters: PackageFilters, first: { filters: PackageFilters; page: PackagePage } | null) {
  const { project } = useViewer();
  const initial: InfiniteData<PackagePage, string | null> | undefined =
    first && sameFilters(first.filters, filters) ? { pages: [first.page], pageParams: [null] } : undefined;
  return useInfiniteQuery({
    queryKey: ["packages", project?.id, filters],
    enabled: project !== null,
    initialPageParam: null as string | null,
    ...(initial ? { initialData: initial } : {}),
    queryFn: ({ pageParam, signal }) =>
      said(
        api.GET("/api/v1/packages", {
          params: {
            query: { ...queryOf(filters, project?.id ?? ""), ...(pageParam ? { cursor: pageParam } : {}) },
          },
          signal,
        }),
      ),
    getNextPageParam: (page) => page.next,
  });
}

/** The table of packages: its address holds every filter, and rows come as one scrolls to them. */
export function PackageList({ first }: { first: { filters: PackageFilters; page: PackagePage } | null }) {
  const t = useTranslations("packages");
  const router = useRouter();
  const path = usePathname();
  const params = useSearchParams();
  const filters = filtersOf(params);
  const query = usePackages(filters, first);
  const [isNew, setNew] = useState(params.get("new") === "1");

  function change(part: Partial<PackageFilters>) {
    const next = new URLSearchParams();
    for (const [name, value] of Object.entries({ ...filters, ...part })) {
      if (value && !(name === "sort" && value === "code")) next.set(name, value);
    }
    router.replace(next.size > 0 ? `${path}?${next}` : path, { scroll: false });
  }

  const packages = query.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <>
      <div className="page-head">
        <h1>{t("title")}</h1>
        <div className="line">
          <Link className="button" href="/packages/board">
            {t("board")}
          </Link>
          <Button look="main" onClick={() => setNew(true)}>
            {t("new")}
          </Button>
        </div>
      </div>
      <Filters filters={filters} onChange={change} />
      {query.isError && packages.length === 0 ? (
        <ProblemNotice error={query.error} onRetry={() => void query.refetch()} />
      ) : null}
      {query.isPending ? <Skeleton /> : null}
      {query.isSuccess && packages.length === 0 ? (
        <Empty title={t("empty")}>
          <p>{t("emptyText")}</p>
          <Button onClick={() => change({ q: "", status: "", without: "" })}>{t("clear")}</Button>
        </Empty>
      ) : null}
      {packages.length > 0 ? (
        <>
          <Sheet
            packages={packages}
            hasMore={query.hasNextPage}
            onEnd={() => {
              if (query.hasNextPage && !query.isFetchingNextPage) void query.fetchNextPage();
            }}
          />
          <p className="small muted" role="status">
            {query.isFetchingNextPage
              ? t("loading")
              : t("shown", { count: packages.length, more: query.hasNextPage ? "yes" : "no" })}
          </p>
        </>
      ) : null}
      {isNew ? <NewPackage onClose={() => setNew(false)} /> : null}
    </>
  );
}

function Filters({
  filters,
  onChange,
}: {
  filters: PackageFilters;
  onChange: (part: Partial<PackageFilters>) => void;
}) {
  const t = useTranslations();
  const word = useStatusWord();
  const [typed, setTyped] = useState(filters.q);
  const sent = useRef(filters.q);

  useEffect(() => {
    // Somebody went back, or took the filters away: the field follows its address, unless it is being typed in.
    if (filters.q !== sent.current) {
      sent.current = filters.q;
      setTyped(filters.q);
    }
  }, [filters.q]);

  useEffect(() => {
    if (typed === sent.current) return;
    const timer = setTimeout(() => {
      sent.current = typed;
      onChange({ q: typed });
    }, TYPING);
    return () => clearTimeout(timer);
  }, [typed, onChange]);

  const statuses = [{ value: "", label: t("packages.any") }].concat(
    PACKAGE_STATUSES.map((status) => ({ value: status, label: word(status) })),
  );
  const sorts = SORTS.map((sort) => {
    const field = sort.replace("-", "") as "code" | "created_at" | "planned_end" | "amount";
    return { value: sort, label: `${t(`field.${field}`)} ${sort.startsWith("-") ? "↓" : "↑"}` };
  });
  const lacks = [{ value: "", label: t("packages.nothing") }].concat(
    (["owner_id", "vendor_id", "amount", "planned_end"] as const).map((field) => ({
      value: field,
      label: t(`field.${field}`),
    })),
  );
  return (
    <search className="filters">
      <div className="grow">
        <TextField
          label={t("packages.search")}
          type="search"
          data-search="true"
          value={typed}
          onChange={(event) => setTyped(event.target.value)}
        />
      </div>
      <SelectField
        label={t("packages.status")}
        choices={statuses}
        value={filters.status}
        onChange={(event) => onChange({ status: event.target.value })}
      />
      <SelectField
        label={t("packages.without")}
        choices={lacks}
        value={filters.without}
        onChange={(event) => onChange({ without: event.target.value })}
      />
      <SelectField
        label={t("packages.sort")}
        choices={sorts}
        value={filters.sort}
        onChange={(event) => onChange({ sort: SORTS.find((sort) => sort === event.target.value) ?? "code" })}
      />
    </search>
  );
}

/** Height of a row as the style sheet has it, which the density and a narrow screen change. */
function useRowHeight(): number {
  const [height, setHeight] = useState(ROWS.comfortable);
  useEffect(() => {
    const narrow = window.matchMedia("(max-width: 860px)");
    const read = () => {
      const dense = document.documentElement.dataset.density === "compact";
      setHeight(narrow.matches ? ROWS.narrow : dense ? ROWS.compact : ROWS.comfortable);
    };
    read();
    narrow.addEventListener("change", read);
    return () => narrow.removeEventListener("change", read);
  }, []);
  return height;
}

function Sheet({
  packages,
  hasMore,
  onEnd,
}: {
  packages: readonly Package[];
  hasMore: boolean;
  onEnd: () => void;
}) {
  const t = useTranslations();
  const height = useRowHeight();
  const box = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({
    count: packages.length,
    getScrollElement: () => box.current,
    estimateSize: () => height,
    overscan: AHEAD,
    // What the server renders before anything is measured: enough for a first screen.
    initialRect: { width: 1200, height: 700 },
  });
  const shown = rows.getVirtualItems();
  const last = shown.at(-1)?.index ?? 0;

  useEffect(() => {
    rows.measure();
  }, [rows]);
  useEffect(() => {
    if (hasMore && last >= packages.length - AHEAD) onEnd();
  }, [hasMore, last, packages.length, onEnd]);

  /** j and k, or the arrows, walk through the rows; the row's link opens with Enter by itself. */
  function walk(event: KeyboardEvent<HTMLDivElement>) {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    const link = (event.target as HTMLElement).closest<HTMLElement>("[data-index]");
    if (step === undefined || link === null) return;
    event.preventDefault();
    const next = Math.min(Math.max(Number(link.dataset.index) + step, 0), packages.length - 1);
    rows.scrollToIndex(next);
    requestAnimationFrame(() => box.current?.querySelector<HTMLElement>(`[data-index="${next}"] a`)?.focus());
  }

  return (
    <div
      className="card sheet"
      ref={box}
      role="table"
      aria-label={t("packages.title")}
      aria-rowcount={hasMore ? -1 : packages.length + 1}
      onKeyDown={walk}
    >
      <div role="row" className="sheet-head" aria-rowindex={1}>
        <span role="columnheader">{t("field.code")}</span>
        <span role="columnheader">{t("field.title")}</span>
        <span role="columnheader">{t("field.status")}</span>
        <span role="columnheader" className="end">
          {t("field.amount")}
        </span>
        <span role="columnheader">{t("field.planned_end")}</span>
        <span role="columnheader">{t("field.owner_id")}</span>
      </div>
      <div role="rowgroup" style={{ height: rows.getTotalSize(), position: "relative" }}>
        {shown.map((row) => {
          const one = packages[row.index];
          return one ? <Row key={one.id} one={one} index={row.index} top={row.start} /> : null;
        })}
      </div>
    </div>
  );
}

function Row({ one, index, top }: { one: Package; index: number; top: number }) {
  const names = useNames();
  return (
    <div
      role="row"
      className="sheet-row"
      data-index={index}
      aria-rowindex={index + 2}
      style={{ position: "absolute", top: 0, left: 0, right: 0, transform: `translateY(${top}px)` }}
    >
      <span role="cell" className="mono small wide-only">
        {one.code}
      </span>
      <span role="cell">
        <Link href={`/packages/${one.code}`} prefetch={false}>
          <span className="only-narrow mono small">{one.code}&nbsp;</span>
          {one.title}
        </Link>
      </span>
      <span role="cell">
        <StatusBadge status={one.status} />
      </span>
      <span role="cell" className="end">
        <Money amount={one.amount} currency={one.currency} />
      </span>
      <span role="cell">
        <Day value={one.planned_end} />
      </span>
      <span role="cell" className="muted wide-only">
        {one.owner_id ? (names.get(one.owner_id) ?? "…") : "–"}
      </span>
    </div>
  );
}
