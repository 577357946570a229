"use client";

import Link from "next/link";
import { type FormEvent, useRef, useState } from "react";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { TextField } from "@/components/field";
import { ProblemNotice } from "@/components/problem-notice";
import { StatusBadge } from "@/components/show";
import { useRouteWord } from "@/features/proposal/route";
import { api, newIntent, type Schemas, said } from "@/lib/api";
import { useAttempt } from "@/lib/attempt";
import { useViewer } from "@/lib/viewer";

type Turn = { id: string; asked: string; answer: Schemas["ChatAnswer"] | null };

const EXAMPLES = [
  "What waits for me?",
  "Which tasks are overdue?",
  "Totals by status",
  "What changed since Monday?",
] as const;

/** A conversation: questions are answered with evidence, wishes become proposals. */
export function Chat() {
  const t = useTranslations("chat");
  const { project } = useViewer();
  const [turns, setTurns] = useState<readonly Turn[]>([]);
  const [typed, setTyped] = useState("");
  const { attempt, isBusy, problem } = useAttempt();
  const intent = useRef(newIntent());
  const end = useRef<HTMLDivElement>(null);
  const conversation = turns.findLast((turn) => turn.answer)?.answer?.conversation_id ?? null;

  async function ask(query: string) {
    if (query.trim() === "" || isBusy) return;
    const turn: Turn = { id: intent.current["Idempotency-Key"], asked: query, answer: null };
    setTurns((before) => [...before.filter((one) => one.id !== turn.id), turn]);
    await attempt(
      async () => {
        const answer = await said(
          api.POST("/api/v1/chat", {
            params: { header: intent.current },
            body: { query, conversation_id: conversation, project: project?.id ?? null },
          }),
        );
        setTurns((before) => before.map((one) => (one.id === turn.id ? { ...one, answer } : one)));
        // What was typed while the answer came is the next question.
        setTyped((now) => (now === query ? "" : now));
        intent.current = newIntent();
      },
      () => setTurns((before) => before.filter((one) => one.id !== turn.id)),
    );
    end.current?.scrollIntoView({ block: "end" });
  }

  function submit(event: FormEvent) {
    event.preventDefault();
    void ask(typed);
  }

  return (
    <>
      <div>
        <h1>{t("title")}</h1>
        <p className="muted">{t("text")}</p>
      </div>
      <div className="talk" aria-live="polite">
        {turns.map((turn) => (
          <TurnShown key={turn.id} turn={turn} onAsk={(query) => void ask(query)} />
        ))}
        {problem ? <ProblemNotice error={problem} /> : null}
        <div ref={end} />
      </div>
      {turns.length === 0 ? (
        <section className="stack" aria-label={t("try")}>
          <h2>{t("try")}</h2>
          <div className="line">
            {EXAMPLES.map((example) => (
              <Button key={example} onClick={() => void ask(example)}>
                {example}
              </Button>
            ))}
          </div>
        </section>
      ) : null}
      <form className="filters" onSubmit={submit}>
        <div className="grow">
          <TextField
            label={t("ask")}
            value={typed}
            data-search="true"
            onChange={(event) => {
              setTyped(event.target.value);
              intent.current = newIntent();
            }}
            error={problem?.of("query")}
          />
        </div>
        <Button type="submit" look="main" busy={isBusy}>
          {isBusy ? t("thinking") : t("send")}
        </Button>
      </form>
    </>
  );
}

const PAGE_OF: Readonly<Record<string, (id: string) => string>> = {
  package: (id) => `/packages/${id}`,
  approval: (id) => `/approvals?view=open&id=${id}`,
};

function TurnShown({ turn, onAsk }: { turn: Turn; onAsk: (query: string) => void }) {
  const t = useTranslations("chat");
  const route = useRouteWord();
  const answer = turn.answer;
  return (
    <>
      <article data-who="you" aria-label={t("you")}>
        <p className="prose">{turn.asked}</p>
      </article>
      <article data-who="it" aria-label={t("it")}>
        {answer === null ? (
          <p className="muted">{t("thinking")}</p>
        ) : (
          <>
            <p className="prose">{answer.response}</p>
            {answer.changes.map((change) => (
              <p key={`${change.target_id}-${change.operation}-${change.digest}`} className="notice line">
                <StatusBadge status={change.outcome} />
                <span>{change.target ?? change.target_type}</span>
                {change.route ? <span className="small">{route(change.route)}</span> : null}
                {change.approval_id ? (
                  <Link href={`/approvals?view=open&id=${change.approval_id}`}>{t("open")}</Link>
                ) : null}
              </p>
            ))}
            {answer.evidence.length > 0 ? (
              <details>
                <summary>{t("evidence")}</summary>
                <ul className="small">
                  {answer.evidence.map((one) => {
                    const page = PAGE_OF[one.type]?.(one.id);
                    return (
                      <li key={`${one.type}-${one.id}`}>
                        {page ? <Link href={page}>{one.label}</Link> : `${one.type}: ${one.label}`}
                      </li>
                    );
                  })}
                </ul>
              </details>
            ) : null}
            {answer.offers.length > 0 ? (
              <div className="line">
                {answer.offers.map((offer) => (
                  <Button key={offer} onClick={() => onAsk(offer)}>
                    {offer}
                  </Button>
                ))}
              </div>
            ) : null}
          </>
        )}
      </article>
    </>
  );
}
