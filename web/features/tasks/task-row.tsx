"use client";

import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { Dialog } from "@/components/dialog";
import { Loaded } from "@/components/query";
import { Day, StatusBadge, useStatusWord } from "@/components/show";
import { ProposalDialog } from "@/features/proposal/proposal-dialog";
import { api, etagOf, said, type Task } from "@/lib/api";
import * as format from "@/lib/format";
import { useNames } from "@/lib/names";
import { useTimeZone } from "@/lib/viewer";

const OVER = ["completed", "cancelled"];

/** A task in a list; its status opens the steps that lead on from it. */
export function TaskRow({ task }: { task: Task }) {
  const t = useTranslations("tasks");
  const names = useNames();
  const word = useStatusWord();
  const zone = useTimeZone();
  const [isOpen, setOpen] = useState(false);
  const [step, setStep] = useState<string | null>(null);
  const isLate = !OVER.includes(task.status) && Boolean(task.due_date && task.due_date < format.today(zone));
  return (
    <li className="spread">
      <span>
        <span>{task.title}</span>
        <br />
        <span className="small muted">{task.assignee_id ? (names.get(task.assignee_id) ?? "…") : "–"}</span>
      </span>
      <span className="line">
        {isLate ? (
          <span className="badge" data-tone="bad">
            {t("late")}
          </span>
        ) : null}
        <span className="small">
          <Day value={task.due_date} />
        </span>
        <Button look="quiet" onClick={() => setOpen(true)}>
          <span className="hidden">{t("step", { title: task.title })}: </span>
          <StatusBadge status={task.status} />
        </Button>
      </span>
      {isOpen ? (
        <Steps
          task={task}
          onPick={(status) => {
            setOpen(false);
            setStep(status);
          }}
          onClose={() => setOpen(false)}
        />
      ) : null}
      {step ? (
        <ProposalDialog<object>
          title={`${task.title}: ${word(step)}`}
          gather={() => ({})}
          send={({ reason }, { dryRun, intent }) =>
            said(
              api.POST("/api/v1/tasks/{reference}/transitions", {
                params: {
                  path: { reference: task.id },
                  query: { dry_run: dryRun },
                  header: { ...intent, "If-Match": etagOf(task) },
                },
                body: { status: step, reason },
              }),
            )
          }
          onClose={() => setStep(null)}
        />
      ) : null}
    </li>
  );
}

function Steps({
  task,
  onPick,
  onClose,
}: {
  task: Task;
  onPick: (status: string) => void;
  onClose: () => void;
}) {
  const t = useTranslations();
  const word = useStatusWord();
  const query = useQuery({
    queryKey: ["steps", task.id, task.version],
    queryFn: ({ signal }) =>
      said(
        api.GET("/api/v1/tasks/{reference}/transitions", {
          params: { path: { reference: task.id } },
          signal,
        }),
      ),
  });
  return (
    <Dialog title={t("tasks.step", { title: task.title })} onClose={onClose}>
      <Loaded query={query}>
        {(steps) => (
          <ul className="stack">
            {steps.next.length === 0 ? <li>{t("package.stepsNone")}</li> : null}
            {steps.next.map((next) => (
              <li key={next.step} className="spread">
                {next.you_may_propose ? (
                  <Button onClick={() => onPick(next.status)}>
                    {t("propose.step", { step: word(next.status) })}
                  </Button>
                ) : (
                  <>
                    <StatusBadge status={next.status} />
                    <span className="small muted">{t("package.notYours")}</span>
                  </>
                )}
              </li>
            ))}
          </ul>
        )}
      </Loaded>
    </Dialog>
  );
}
