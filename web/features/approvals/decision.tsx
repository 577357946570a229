"use client";

import { queryOptions, useQuery, useQueryClient } from "@tanstack/react-query";
import Link from "next/link";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { toast } from "sonner";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { Dialog } from "@/components/dialog";
import { Diff, useFieldWord } from "@/components/diff";
import { TextArea } from "@/components/field";
import { ProblemNotice } from "@/components/problem-notice";
import { Loaded } from "@/components/query";
import { Moment, StatusBadge, useStatusWord } from "@/components/show";
import { Agreeing, Reasons, useRouteWord } from "@/features/proposal/route";
import { type Approval, api, newIntent, type Schemas, said } from "@/lib/api";
import { useAttempt } from "@/lib/attempt";
import { isTyping } from "@/lib/keys";
import type { Problem } from "@/lib/problem";
import { useViewer } from "@/lib/viewer";

type Verb = "approve" | "reject" | "request" | "confirm" | "withdraw";

const KEYS: Readonly<Record<string, Verb>> = { a: "approve", r: "reject", c: "request" };
const NEEDS_REASON: readonly Verb[] = ["reject", "request"];
const WAITING = ["pending", "confirmation_required"];

/** Sends a decision about exactly what was shown: the digest says what that was. */
function send(verb: Verb, one: Approval, reason: string | null, intent: { "Idempotency-Key": string }) {
  const params = { path: { approval_id: one.id }, header: intent };
  const body = { digest: one.digest, reason };
  const explained = { digest: one.digest, reason: reason ?? "" };
  switch (verb) {
    case "approve":
      return said(api.POST("/api/v1/approvals/{approval_id}/approve", { params, body }));
    case "reject":
      return said(api.POST("/api/v1/approvals/{approval_id}/reject", { params, body: explained }));
    case "request":
      return said(api.POST("/api/v1/approvals/{approval_id}/request-changes", { params, body: explained }));
    case "confirm":
      return said(api.POST("/api/v1/approvals/{approval_id}/confirm", { params, body }));
    case "withdraw":
      return said(api.POST("/api/v1/approvals/{approval_id}/withdraw", { params, body }));
  }
}

function approvalQuery(id: string) {
  return queryOptions({
    queryKey: ["approval", id],
    queryFn: ({ signal }) =>
      said(api.GET("/api/v1/approvals/{approval_id}", { params: { path: { approval_id: id } }, signal })),
  });
}

export function Decision({ id }: { id: string }) {
  const query = useQuery(approvalQuery(id));
  return <Loaded query={query}>{(one) => <Whole one={one} />}</Loaded>;
}

function rulesOf(decision: Approval["decision"]): { reasons: Schemas["OutcomeReason"][]; rule: string } {
  const reasons = decision.reasons;
  return {
    reasons: Array.isArray(reasons) ? (reasons as Schemas["OutcomeReason"][]) : [],
    rule: String(decision.rule ?? ""),
  };
}

function Whole({ one }: { one: Approval }) {
  const t = useTranslations("approvals");
  const route = useRouteWord();
  const field = useFieldWord();
  return (
    <article className="card" aria-label={one.label}>
      <header>
        <div>
          <h2>{one.label}</h2>
          <p className="small muted">
            {one.proposer.name}, <Moment value={one.created_at} />
          </p>
        </div>
        <StatusBadge status={one.status} />
      </header>
      <div className="card-body">
        {one.reason ? <blockquote className="prose">{one.reason}</blockquote> : null}
        <Diff records={one.diff} />
        <p className="line">
          <span className="badge" data-tone="info">
            {t("score", { score: String(one.decision.score ?? "–") })}
          </span>
          <span>{route(one.route)}</span>
        </p>
        <Reasons {...rulesOf(one.decision)} />
        {WAITING.includes(one.status) ? <Agreeing steps={one.open_steps ?? []} title={t("who")} /> : null}
        <Verdicts one={one} />
        {one.colliding && one.colliding.length > 0 ? (
          <p className="notice" data-tone="warn">
            {t("collides", { fields: one.colliding.map(field).join(", ") })}
          </p>
        ) : null}
        {one.closed_reason ? <p className="prose">{one.closed_reason}</p> : null}
        {one.expires_at && WAITING.includes(one.status) ? <Until at={one.expires_at} /> : null}
        {one.target_type === "package" && !one.changes.some((change) => change.operation === "create") ? (
          <p>
            <Link href={`/packages/${one.target_id}`}>{one.label}</Link>
          </p>
        ) : null}
        {WAITING.includes(one.status) ? <Deciding one={one} /> : null}
      </div>
    </article>
  );
}

function Until({ at }: { at: string }) {
  const t = useTranslations("approvals");
  return <p className="small muted">{t.rich("until", { when: () => <Moment value={at} /> })}</p>;
}

function Verdicts({ one }: { one: Approval }) {
  const t = useTranslations("approvals");
  const word = useVerdictWord();
  const verdicts = one.verdicts ?? [];
  if (verdicts.length === 0) return null;
  return (
    <section className="stack">
      <h3>{t("verdicts")}</h3>
      <ul className="rows">
        {verdicts.map((verdict) => (
          <li key={`${verdict.person_id}-${verdict.at}`}>
            <p className="spread">
              <span>
                {verdict.name}: {word(verdict.verdict)}
              </span>
              <span className="small muted">
                <Moment value={verdict.at} />
              </span>
            </p>
            {verdict.reason ? <p className="prose small">{verdict.reason}</p> : null}
          </li>
        ))}
      </ul>
    </section>
  );
}

function useVerdictWord(): (verdict: "approve" | "reject" | "request_changes") => string {
  const t = useTranslations("approvals");
  return (verdict) => t(verdict === "request_changes" ? "request" : verdict);
}

/** What the viewer may say; a key does what its button does. A refusal says why, and nothing is half decided. */
function Deciding({ one }: { one: Approval }) {
  const t = useTranslations("approvals");
  const status = useStatusWord();
  const client = useQueryClient();
  const { me } = useViewer();
  const [asking, setAsking] = useState<Verb | null>(null);
  const { attempt, isBusy, problem, forget } = useAttempt();
  const intent = useRef(newIntent());
  const isOwn = one.proposer.person_id === me.id;
  const verbs: readonly Verb[] =
    isOwn && one.status === "confirmation_required"
      ? ["confirm", "withdraw"]
      : isOwn
        ? ["withdraw"]
        : ["approve", "request", "reject"];

  async function say(verb: Verb, reason: string | null) {
    if (isBusy) return;
    await attempt(async () => {
      await send(verb, one, reason, intent.current);
      const now = await client.fetchQuery({ ...approvalQuery(one.id), staleTime: 0 });
      toast.success(t("done", { label: one.label, what: status(now.status) }));
      setAsking(null);
      void client.invalidateQueries();
    });
    intent.current = newIntent();
  }

  function begin(verb: Verb) {
    forget();
    if (NEEDS_REASON.includes(verb)) setAsking(verb);
    else void say(verb, null);
  }

  const pressed = useRef(begin);
  useEffect(() => {
    pressed.current = begin;
  });
  useEffect(() => {
    function key(event: KeyboardEvent) {
      const verb = KEYS[event.key];
      if (verb === undefined || isTyping(event) || isOwn) return;
      event.preventDefault();
      pressed.current(verb);
    }
    document.addEventListener("keydown", key);
    return () => document.removeEventListener("keydown", key);
  }, [isOwn]);

  return (
    <div className="stack">
      {isOwn ? <p className="muted">{t("own")}</p> : null}
      {problem && asking === null ? <ProblemNotice error={problem} /> : null}
      <div className="actions">
        {verbs.map((verb) => (
          <Button
            key={verb}
            look={verb === "approve" || verb === "confirm" ? "main" : verb === "reject" ? "bad" : "plain"}
            busy={isBusy}
            onClick={() => begin(verb)}
          >
            {t(verb)} {isOwn ? null : <kbd aria-hidden="true">{KEY_OF[verb]}</kbd>}
          </Button>
        ))}
      </div>
      {asking ? (
        <Why
          title={`${t(asking)}: ${one.label}`}
          problem={problem}
          isBusy={isBusy}
          onSay={(reason) => void say(asking, reason)}
          onClose={() => setAsking(null)}
        />
      ) : null}
    </div>
  );
}

const KEY_OF: Readonly<Partial<Record<Verb, string>>> = Object.fromEntries(
  Object.entries(KEYS).map(([key, verb]) => [verb, key]),
);

function Why({
  title,
  problem,
  isBusy,
  onSay,
  onClose,
}: {
  title: string;
  problem: Problem | null;
  isBusy: boolean;
  onSay: (reason: string) => void;
  onClose: () => void;
}) {
  const t = useTranslations();
  const [isMissing, setMissing] = useState(false);
  function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const reason = String(new FormData(event.currentTarget).get("reason") ?? "").trim();
    setMissing(reason === "");
    if (reason !== "") onSay(reason);
  }
  return (
    <Dialog title={title} onClose={onClose}>
      <form className="stack" onSubmit={submit} noValidate>
        <TextArea
          name="reason"
          label={t("approvals.reasonFor")}
          error={isMissing ? t("approvals.reasonNeeded") : problem?.of("reason")}
        />
        {problem ? <ProblemNotice error={problem} /> : null}
        <div className="actions">
          <Button onClick={onClose}>{t("do.cancel")}</Button>
          <Button type="submit" look="main" busy={isBusy}>
            {t("do.send")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
