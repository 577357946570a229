"use client";

import { useQueryClient } from "@tanstack/react-query";
import { useRouter } from "next/navigation";
import { type FormEvent, type ReactNode, useRef, useState } from "react";
import { toast } from "sonner";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { Dialog } from "@/components/dialog";
import { Diff } from "@/components/diff";
import { TextArea } from "@/components/field";
import { ProblemNotice } from "@/components/problem-notice";
import { Agreeing, Reasons, useRouteWord } from "@/features/proposal/route";
import { newIntent, type Outcome, type Preview } from "@/lib/api";
import { useAttempt } from "@/lib/attempt";
import type { Problem } from "@/lib/problem";

export type Said = { reason: string | null };
/** Sends what was gathered: to look at what it would do, or to do it. */
export type Send<T> = (
  gathered: T & Said,
  how: { dryRun: boolean; intent: { "Idempotency-Key": string } },
) => Promise<Preview | Outcome>;

function isOutcome(answer: Preview | Outcome): answer is Outcome {
  return "approval" in answer;
}

/**
 * The one way in which a person proposes: fill in, see the difference, the route and who must agree, then send. What is
 * refused leaves what was typed where it is; what is sent twice happens once.
 */
export function ProposalDialog<T extends object>({
  title,
  gather,
  send,
  onClose,
  onRefresh,
  onDone,
  children,
}: {
  title: string;
  /** What the form holds, or null where there is nothing to propose. */
  gather: (form: FormData) => T | null;
  send: Send<T>;
  onClose: () => void;
  /** Takes the newest version of the record, after it turned out to have changed. */
  onRefresh?: () => void;
  onDone?: (outcome: Outcome) => void;
  children?: (problem: Problem | null) => ReactNode;
}) {
  const t = useTranslations("propose");
  const action = useTranslations("do");
  const client = useQueryClient();
  const router = useRouter();
  const [gathered, setGathered] = useState<(T & Said) | null>(null);
  const [preview, setPreview] = useState<Preview | null>(null);
  const [isEmpty, setEmpty] = useState(false);
  const { attempt, isBusy, problem, forget } = useAttempt();
  const intent = useRef(newIntent());

  function look(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const found = gather(form);
    setEmpty(found === null);
    if (found === null) return;
    const said = { ...found, reason: String(form.get("reason") ?? "").trim() || null };
    void attempt(async () => {
      const answer = await send(said, { dryRun: true, intent: newIntent() });
      if (isOutcome(answer)) return finish(answer);
      intent.current = newIntent();
      setGathered(said);
      setPreview(answer);
    });
  }

  function finish(outcome: Outcome) {
    const approval = outcome.approval;
    const text =
      outcome.outcome === "applied"
        ? t("applied")
        : outcome.outcome === "pending"
          ? t("pending")
          : t("confirm");
    toast.success(
      text,
      approval && outcome.outcome !== "applied"
        ? {
            action: { label: t("see"), onClick: () => router.push(`/approvals?view=open&id=${approval.id}`) },
          }
        : {},
    );
    void client.invalidateQueries();
    onDone?.(outcome);
    onClose();
  }

  function sendIt() {
    if (gathered === null) return;
    void attempt(async () => {
      const answer = await send(gathered, { dryRun: false, intent: intent.current });
      if (isOutcome(answer)) finish(answer);
    });
  }

  const stale = problem?.status === 412;
  const notice = problem ? (
    <ProblemNotice
      error={problem}
      {...(stale && onRefresh
        ? {
            onRetry: () => {
              onRefresh();
              setPreview(null);
              forget();
            },
          }
        : {})}
    />
  ) : null;

  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={look} className="stack" hidden={preview !== null} noValidate>
        <div className="form-grid">
          {children?.(problem)}
          <TextArea name="reason" label={t("reason")} rows={2} error={problem?.of("reason")} />
        </div>
        {isEmpty ? <p role="status">{t("nothing")}</p> : null}
        {preview === null ? notice : null}
        <div className="actions">
          <Button onClick={onClose}>{action("cancel")}</Button>
          <Button type="submit" look="main" busy={isBusy}>
            {action("preview")}
          </Button>
        </div>
      </form>
      {preview ? (
        <div className="stack">
          <Foreseen preview={preview} />
          {notice}
          <div className="actions">
            <Button onClick={() => setPreview(null)}>{action("back")}</Button>
            <Button look="main" busy={isBusy} onClick={sendIt} autoFocus>
              {t("send")}
            </Button>
          </div>
        </div>
      ) : null}
    </Dialog>
  );
}

function Foreseen({ preview }: { preview: Preview }) {
  const t = useTranslations("propose");
  const route = useRouteWord();
  const text = { AUTO: t("willApply"), CONFIRM: t("willConfirm") }[preview.route] ?? t("willWait");
  return (
    <>
      <div className="notice" data-tone={preview.route === "AUTO" ? "good" : "warn"} role="status">
        <p>
          <strong>{text}</strong>
        </p>
        <p className="small">{route(preview.route)}</p>
      </div>
      <Diff records={preview.diff} />
      <Agreeing steps={preview.open_steps} title={t("who")} />
      <Reasons reasons={preview.reasons} rule={preview.rule} />
    </>
  );
}
