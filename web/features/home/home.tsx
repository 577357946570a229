"use client";

import { useQueries, useQuery } from "@tanstack/react-query";
import Link from "next/link";
import { useTranslations } from "use-intl";
import { Card } from "@/components/card";
import { ProblemNotice } from "@/components/problem-notice";
import { Loaded } from "@/components/query";
import { Ago, Empty, useStatusWord } from "@/components/show";
import { useApprovals } from "@/features/approvals/inbox";
import { TaskRow } from "@/features/tasks/task-row";
import { api, said } from "@/lib/api";
import { PACKAGE_STATUSES } from "@/lib/status";
import { useViewer } from "@/lib/viewer";

const FEW = 6;
const COUNTED = 200;

/** What waits for me, what is late, what is new, and where everything stands. */
export function Home() {
  const t = useTranslations("home");
  const { project } = useViewer();
  if (project === null) return <Empty title={t("title")}>{t("noProject")}</Empty>;
  return (
    <>
      <h1>{project.name}</h1>
      <div className="cards">
        <Waiting />
        <Overdue project={project.id} />
        <ByStatus project={project.id} />
        <Newest project={project.id} />
      </div>
    </>
  );
}

function Waiting() {
  const t = useTranslations("home");
  const query = useApprovals("inbox");
  return (
    <Card title={t("waiting")} aside={<Link href="/approvals">{t("all")}</Link>}>
      <Loaded query={query}>
        {(approvals) => (
          <ul className="rows">
            {approvals.length === 0 ? <li className="muted">{t("waitingNone")}</li> : null}
            {approvals.slice(0, FEW).map((one) => (
              <li key={one.id} className="spread">
                <Link href={`/approvals?view=inbox&id=${one.id}`}>{one.label}</Link>
                <span className="small muted">
                  {one.proposer.name}, <Ago value={one.created_at} />
                </span>
              </li>
            ))}
          </ul>
        )}
      </Loaded>
    </Card>
  );
}

function Overdue({ project }: { project: string }) {
  const t = useTranslations("home");
  const query = useQuery({
    queryKey: ["tasks", "overdue", "few", project],
    queryFn: ({ signal }) =>
      said(
        api.GET("/api/v1/tasks", {
          params: { query: { project, overdue: "true", sort: "due_date", limit: FEW } },
          signal,
        }),
      ),
  });
  return (
    <Card title={t("overdue")} aside={<Link href="/tasks?view=overdue">{t("all")}</Link>}>
      <Loaded query={query}>
        {(page) => (
          <ul className="rows">
            {page.items.length === 0 ? <li className="muted">{t("overdueNone")}</li> : null}
            {page.items.map((task) => (
              <TaskRow key={task.id} task={task} />
            ))}
          </ul>
        )}
      </Loaded>
    </Card>
  );
}

/** How many packages are where; a bar for the eye, the number beside it, and both lead to the list. */
function ByStatus({ project }: { project: string }) {
  const t = useTranslations("home");
  const word = useStatusWord();
  const counts = useQueries({
    queries: PACKAGE_STATUSES.map((status) => ({
      queryKey: ["packages", "count", project, status],
      queryFn: async ({ signal }: { signal: AbortSignal }) => {
        const page = await said(
          api.GET("/api/v1/packages", { params: { query: { project, status, limit: COUNTED } }, signal }),
        );
        return { status, count: page.items.length, isMore: page.next !== null };
      },
    })),
    combine: (results) => ({
      found: results.flatMap((result) => (result.data ? [result.data] : [])),
      failed: results.find((result) => result.isError)?.error ?? null,
    }),
  });
  const most = Math.max(1, ...counts.found.map((one) => one.count));
  return (
    <Card title={t("status")} aside={<Link href="/packages/board">{t("all")}</Link>}>
      {counts.failed ? <ProblemNotice error={counts.failed} /> : null}
      <ul className="card-body bars">
        {counts.found.map((one) => (
          <li key={one.status}>
            <Link href={`/packages?status=${one.status}`}>
              <span>{word(one.status)}</span>
              <i aria-hidden="true" style={{ width: `${(100 * one.count) / most}%` }} />
              <span className="number">
                {one.count}
                {one.isMore ? "+" : ""}
              </span>
            </Link>
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Newest({ project }: { project: string }) {
  const t = useTranslations("home");
  const query = useQuery({
    queryKey: ["packages", "newest", project],
    queryFn: ({ signal }) =>
      said(
        api.GET("/api/v1/packages", {
          params: { query: { project, sort: "-created_at", limit: FEW } },
          signal,
        }),
      ),
  });
  return (
    <Card title={t("newest")} aside={<Link href="/packages?sort=-created_at">{t("all")}</Link>}>
      <Loaded query={query}>
        {(page) => (
          <ul className="rows">
            {page.items.length === 0 ? <li className="muted">{t("newestNone")}</li> : null}
            {page.items.map((one) => (
              <li key={one.id} className="spread">
                <Link href={`/packages/${one.code}`}>{one.title}</Link>
                <span className="small muted">
                  <Ago value={one.created_at} />
                </span>
              </li>
            ))}
          </ul>
        )}
      </Loaded>
    </Card>
  );
}
