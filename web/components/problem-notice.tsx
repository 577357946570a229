"use client";

import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { asProblem, type Problem } from "@/lib/problem";

/** What is wrong and what to do, in a person's words; the API's own words where it knows better. */
export function useProblemText(): (error: unknown) => string {
  const t = useTranslations("problem");
  return (error) => {
    const problem = asProblem(error);
    if (problem.code === "offline") return t("offline");
    if (problem.status === 412) return t("stale");
    if (problem.code === "busy") return t("busy");
    if (problem.status === 429) return t("limited", { seconds: problem.retryAfter ?? 1 });
    if (problem.status === 500) return t("server");
    return problem.message;
  };
}

/** A refusal where it happened, with what to do next. Nothing that was typed goes away for it. */
export function ProblemNotice({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  const t = useTranslations("problem");
  const action = useTranslations("do");
  const text = useProblemText();
  const problem: Problem = asProblem(error);
  return (
    <div className="notice" data-tone="bad" role="alert">
      <p>
        <strong>{t("title")}</strong>
      </p>
      <p>{text(problem)}</p>
      {problem.correlationId ? (
        <p className="small muted">{t("quote", { id: problem.correlationId })}</p>
      ) : null}
      {onRetry ? (
        <div>
          <Button onClick={onRetry}>{problem.status === 412 ? action("reload") : action("retry")}</Button>
        </div>
      ) : null}
    </div>
  );
}
