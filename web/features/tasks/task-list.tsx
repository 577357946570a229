"use client";

import { useInfiniteQuery } from "@tanstack/react-query";
import Link from "next/link";
import { useSearchParams } from "next/navigation";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { Loaded } from "@/components/query";
import { Empty } from "@/components/show";
import { TaskRow } from "@/features/tasks/task-row";
import { api, said } from "@/lib/api";
import { useViewer } from "@/lib/viewer";

const VIEWS = ["mine", "overdue", "all"] as const;
type View = (typeof VIEWS)[number];

export function TaskList() {
  const t = useTranslations();
  const { me, project } = useViewer();
  const asked = useSearchParams().get("view");
  const view: View = VIEWS.find((known) => known === asked) ?? "mine";
  const query = useInfiniteQuery({
    queryKey: ["tasks", view, project?.id],
    enabled: project !== null,
    initialPageParam: null as string | null,
    queryFn: ({ pageParam, signal }) =>
      said(
        api.GET("/api/v1/tasks", {
          params: {
            query: {
              project: project?.id ?? "",
              sort: "due_date",
              limit: 50,
              ...(view === "mine" ? { assignee_id: me.id } : {}),
              ...(view === "overdue" ? { overdue: "true" } : {}),
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
      <h1>{t("tasks.title")}</h1>
      <nav className="tabs" aria-label={t("tasks.title")}>
        {VIEWS.map((one) => (
          <Link key={one} href={`/tasks?view=${one}`} aria-current={one === view ? "page" : undefined}>
            {t(`tasks.${one}`)}
          </Link>
        ))}
      </nav>
      <Loaded query={query}>
        {(tasks) =>
          tasks.length === 0 ? (
            <Empty title={t("tasks.empty")}>{t("tasks.emptyText")}</Empty>
          ) : (
            <section className="card">
              <ul className="rows">
                {tasks.map((task) => (
                  <TaskRow key={task.id} task={task} />
                ))}
              </ul>
            </section>
          )
        }
      </Loaded>
      {query.hasNextPage ? (
        <div>
          <Button busy={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
            {t("do.more")}
          </Button>
        </div>
      ) : null}
    </>
  );
}
