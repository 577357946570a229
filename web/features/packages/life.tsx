"use client";

import { useInfiniteQuery } from "@tanstack/react-query";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { Card } from "@/components/card";
import { useFieldWord, useValueText } from "@/components/diff";
import { Loaded } from "@/components/query";
import { Ago } from "@/components/show";
import { api, type EventOut, said } from "@/lib/api";
import type { Messages } from "@/lib/messages";

const PAGE = 20;

/** What an event says changed: field, from, to. Creation says only what it began with. */
export function changesOf(event: EventOut): [string, unknown, unknown][] {
  const changes = event.payload.changes;
  if (typeof changes !== "object" || changes === null) return [];
  return Object.entries(changes).flatMap(([field, change]): [string, unknown, unknown][] =>
    typeof change === "object" && change !== null && "to" in change && "from" in change
      ? [[field, change.from, change.to]]
      : [],
  );
}

/** The whole life of a package, newest first, each change with what it was before. */
export function Life({ reference }: { reference: string }) {
  const t = useTranslations();
  const query = useInfiniteQuery({
    queryKey: ["timeline", "package", reference],
    initialPageParam: null as string | null,
    queryFn: ({ pageParam, signal }) =>
      said(
        api.GET("/api/v1/packages/{reference}/timeline", {
          params: {
            path: { reference },
            query: { limit: PAGE, ...(pageParam ? { cursor: pageParam } : {}) },
          },
          signal,
        }),
      ),
    getNextPageParam: (page) => page.next,
    select: (data) => data.pages.flatMap((page) => page.items),
  });
  return (
    <Card title={t("package.life")}>
      <Loaded query={query}>
        {(events) => (
          <ol className="rows">
            {events.map((event) => (
              <Happened key={event.id} event={event} />
            ))}
            {query.hasNextPage ? (
              <li>
                <Button busy={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
                  {t("do.more")}
                </Button>
              </li>
            ) : null}
          </ol>
        )}
      </Loaded>
    </Card>
  );
}

/** The words for what happened; a kind of event that has none is shown as the log has it. */
function useEventWord(): (type: string) => string {
  const t = useTranslations("event");
  return (type) => {
    const name = type.replace(".", "_") as keyof Messages["event"];
    return t.has(name) ? t(name) : type;
  };
}

function Happened({ event }: { event: EventOut }) {
  const t = useTranslations("propose");
  const happened = useEventWord();
  const word = useFieldWord();
  const text = useValueText();
  return (
    <li className="stack">
      <div className="spread">
        <strong>{happened(event.type)}</strong>
        <span className="small muted">
          <Ago value={event.occurred_at} />
        </span>
      </div>
      <p className="small muted">{event.actor_name}</p>
      {changesOf(event).map(([field, before, after]) => (
        <p key={field} className="small">
          {word(field)}: <span className="muted">{text(field, before) ?? t("empty")}</span> →{" "}
          {text(field, after) ?? t("empty")}
        </p>
      ))}
    </li>
  );
}
