"use client";

import { useQuery } from "@tanstack/react-query";
import Link from "next/link";
import { useRouter, useSearchParams } from "next/navigation";
import { useEffect } from "react";
import { useTranslations } from "use-intl";
import { Loaded } from "@/components/query";
import { Ago, Empty, StatusBadge } from "@/components/show";
import { Decision } from "@/features/approvals/decision";
import { type Approval, api, said } from "@/lib/api";
import { isTyping } from "@/lib/keys";
import { useViewer } from "@/lib/viewer";

export const VIEWS = ["inbox", "open", "history"] as const;
export type View = (typeof VIEWS)[number];

const PAGE = 100;
const CLOSED = "applied,rejected,changes_requested,withdrawn,voided,expired";

/** The riskiest first, and of those that weigh the same the oldest. */
export function byWeight(one: Approval, other: Approval): number {
  const score = (approval: Approval) => Number(approval.decision.score ?? 0);
  return score(other) - score(one) || one.created_at.localeCompare(other.created_at);
}

export function useApprovals(view: View) {
  const { project } = useViewer();
  return useQuery({
    queryKey: ["approvals", view, view === "inbox" ? null : project?.id],
    queryFn: async ({ signal }) => {
      const query =
        view === "inbox"
          ? { waiting_for: "me" as const, sort: "created_at" as const }
          : {
              status: view === "open" ? "pending,confirmation_required" : CLOSED,
              sort: view === "open" ? ("created_at" as const) : ("-created_at" as const),
              ...(project ? { project: project.id } : {}),
            };
      const page = await said(
        api.GET("/api/v1/approvals", { params: { query: { ...query, limit: PAGE } }, signal }),
      );
      return view === "inbox" ? page.items.toSorted(byWeight) : page.items;
    },
  });
}

/** The approvals: a list on one side, the one that is looked at on the other; by keyboard with j, k, a, r and c. */
export function Inbox() {
  const t = useTranslations("approvals");
  const params = useSearchParams();
  const router = useRouter();
  const asked = params.get("view");
  const view: View = VIEWS.find((known) => known === asked) ?? "inbox";
  const chosen = params.get("id");
  const query = useApprovals(view);
  const list = query.data ?? [];

  useEffect(() => {
    function walk(event: KeyboardEvent) {
      const step = { j: 1, k: -1 }[event.key];
      if (step === undefined || isTyping(event) || list.length === 0) return;
      event.preventDefault();
      const at = list.findIndex((one) => one.id === chosen);
      const next = list[Math.min(Math.max(at + step, 0), list.length - 1)];
      if (next) router.replace(`?view=${view}&id=${next.id}`, { scroll: false });
    }
    document.addEventListener("keydown", walk);
    return () => document.removeEventListener("keydown", walk);
  }, [list, chosen, view, router]);

  return (
    <>
      <h1>{t("title")}</h1>
      <nav className="tabs" aria-label={t("title")}>
        {VIEWS.map((one) => (
          <Link key={one} href={`/approvals?view=${one}`} aria-current={one === view ? "page" : undefined}>
            {t(one)}
          </Link>
        ))}
      </nav>
      <div className="inbox">
        <Loaded query={query}>
          {(approvals) =>
            approvals.length === 0 ? (
              <Empty title={t("empty")}>{t("emptyText")}</Empty>
            ) : (
              <ul className="card rows-flush">
                {approvals.map((one) => (
                  <Entry key={one.id} one={one} view={view} isChosen={one.id === chosen} />
                ))}
              </ul>
            )
          }
        </Loaded>
        {chosen ? (
          <Decision key={chosen} id={chosen} />
        ) : list.length > 0 ? (
          <p className="muted">{t("pick")}</p>
        ) : null}
      </div>
    </>
  );
}

function Entry({ one, view, isChosen }: { one: Approval; view: View; isChosen: boolean }) {
  const t = useTranslations("approvals");
  return (
    <li>
      <Link
        className="inbox-item"
        href={`/approvals?view=${view}&id=${one.id}`}
        aria-current={isChosen ? "true" : undefined}
        scroll={false}
      >
        <span className="spread">
          <strong>{one.label}</strong>
          <StatusBadge status={one.status} />
        </span>
        <span className="spread small muted">
          <span>{one.proposer.name}</span>
          <Ago value={one.created_at} />
        </span>
        <span className="small muted">{t("score", { score: String(one.decision.score ?? "–") })}</span>
      </Link>
    </li>
  );
}
