"use client";

import { useQuery } from "@tanstack/react-query";
import Link from "next/link";
import { useTranslations } from "use-intl";
import { Loaded } from "@/components/query";
import { Money, useStatusWord } from "@/components/show";
import { api, said } from "@/lib/api";
import { PACKAGE_STATUSES } from "@/lib/status";
import { useViewer } from "@/lib/viewer";

const TILES = 50;

/** One lane for each status, the earliest end first; each lane loads by itself. */
export function Board() {
  const t = useTranslations("packages");
  return (
    <>
      <div className="page-head">
        <h1>{t("board")}</h1>
        <Link className="button" href="/packages">
          {t("table")}
        </Link>
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls sideways must be reached by keyboard */}
      <section className="board" aria-label={t("board")} tabIndex={0}>
        {PACKAGE_STATUSES.map((status) => (
          <Lane key={status} status={status} />
        ))}
      </section>
    </>
  );
}

function Lane({ status }: { status: string }) {
  const t = useTranslations("do");
  const word = useStatusWord();
  const { project } = useViewer();
  const query = useQuery({
    queryKey: ["packages", "lane", project?.id, status],
    enabled: project !== null,
    queryFn: ({ signal }) =>
      said(
        api.GET("/api/v1/packages", {
          params: { query: { project: project?.id ?? "", status, sort: "planned_end", limit: TILES } },
          signal,
        }),
      ),
  });
  return (
    <section className="lane" aria-label={word(status)}>
      <h2 className="spread">
        {word(status)}
        <span className="muted small">
          {query.data?.items.length ?? ""}
          {query.data?.next ? "+" : ""}
        </span>
      </h2>
      <Loaded query={query}>
        {(page) => (
          <>
            {page.items.map((one) => (
              <Link key={one.id} className="tile" href={`/packages/${one.code}`} prefetch={false}>
                <span className="mono small muted">{one.code}</span>
                <span>{one.title}</span>
                <span className="small">
                  <Money amount={one.amount} currency={one.currency} />
                </span>
              </Link>
            ))}
            {page.next ? <Link href={`/packages?status=${status}&sort=planned_end`}>{t("more")}</Link> : null}
          </>
        )}
      </Loaded>
    </section>
  );
}
