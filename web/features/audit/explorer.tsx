"use client";

import { useInfiniteQuery, useMutation } from "@tanstack/react-query";
import { usePathname, useRouter, useSearchParams } from "next/navigation";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { TextField } from "@/components/field";
import { ProblemNotice } from "@/components/problem-notice";
import { Loaded } from "@/components/query";
import { Empty, Moment } from "@/components/show";
import { api, type EventOut, newIntent, type Schemas, said } from "@/lib/api";
import { useViewer } from "@/lib/viewer";

const PAGE = 50;
const WHOLE = "ok";

/** The log itself: every event with its content, and a check of the whole of it. */
export function Explorer() {
  const t = useTranslations("audit");
  const action = useTranslations("do");
  const router = useRouter();
  const path = usePathname();
  const { project } = useViewer();
  const type = useSearchParams().get("type") ?? "";
  const query = useInfiniteQuery({
    queryKey: ["audit", project?.id, type],
    initialPageParam: null as string | null,
    queryFn: ({ pageParam, signal }) =>
      said(
        api.GET("/api/v1/audit", {
          params: {
            query: {
              limit: PAGE,
              ...(project ? { project: project.id } : {}),
              ...(type ? { type } : {}),
              ...(pageParam ? { cursor: pageParam } : {}),
            },
          },
          signal,
        }),
      ),
    getNextPageParam: (page) => page.next,
    select: (data) => data.pages.flatMap((page) => page.items),
  });
  return (
    <>
      <div>
        <h1>{t("title")}</h1>
        <p className="muted">{t("text")}</p>
      </div>
      <Verify />
      <form
        className="filters"
        onSubmit={(event) => {
          event.preventDefault();
          const asked = String(new FormData(event.currentTarget).get("type") ?? "").trim();
          router.replace(asked ? `${path}?type=${encodeURIComponent(asked)}` : path);
        }}
      >
        <TextField
          name="type"
          label={t("type")}
          defaultValue={type}
          placeholder="package.patched"
          data-search="true"
        />
        <Button type="submit">{action("reload")}</Button>
      </form>
      <Loaded query={query}>
        {(events) =>
          events.length === 0 ? (
            <Empty title={t("empty")} />
          ) : (
            <ol className="card rows">
              {events.map((event) => (
                <Entry key={event.id} event={event} />
              ))}
            </ol>
          )
        }
      </Loaded>
      {query.hasNextPage ? (
        <div>
          <Button busy={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
            {action("more")}
          </Button>
        </div>
      ) : null}
    </>
  );
}

function Entry({ event }: { event: EventOut }) {
  const t = useTranslations("audit");
  return (
    <li>
      <details>
        <summary className="spread">
          <span>
            <span className="number muted">{event.position}</span> <strong>{event.type}</strong>
          </span>
          <span className="small muted">
            {event.actor_name}, <Moment value={event.occurred_at} />
          </span>
        </summary>
        <dl className="stack small">
          <div>
            <dt className="muted">{t("content")}</dt>
            <dd>
              <pre className="prose mono">{JSON.stringify(event.payload, null, 2)}</pre>
            </dd>
          </div>
          <div>
            <dt className="muted">{t("hash")}</dt>
            <dd className="mono prose">{event.content_hash}</dd>
          </div>
        </dl>
      </details>
    </li>
  );
}

function Verify() {
  const t = useTranslations("audit");
  const { me } = useViewer();
  const check = useMutation({
    mutationFn: () => said(api.POST("/api/v1/audit/verify", { params: { header: newIntent() }, body: {} })),
  });
  if (!me.instance_admin) return <p className="small muted">{t("verifier")}</p>;
  return (
    <div className="stack">
      <div>
        <Button look="main" busy={check.isPending} onClick={() => check.mutate()}>
          {t("verify")}
        </Button>
      </div>
      <div role="status">{check.isPending ? t("verifying") : null}</div>
      {check.isError ? <ProblemNotice error={check.error} /> : null}
      {check.data ? <Result result={check.data} /> : null}
    </div>
  );
}

function Result({ result }: { result: Schemas["Verification"] }) {
  const t = useTranslations("audit");
  const isWhole = result.result === WHOLE && result.findings.length === 0;
  return (
    <div className="notice" data-tone={isWhole ? "good" : "bad"} role="alert">
      <p>
        <strong>
          {isWhole
            ? t("verified", { sealed: result.sealed, unsealed: result.unsealed, streams: result.streams })
            : t("broken", { count: result.findings.length })}
        </strong>
      </p>
      {isWhole ? null : <pre className="prose mono small">{result.report}</pre>}
    </div>
  );
}
