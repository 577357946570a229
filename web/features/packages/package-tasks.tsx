"use client";

import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { Card } from "@/components/card";
import { SelectField, TextField } from "@/components/field";
import { Loaded } from "@/components/query";
import { ProposalDialog } from "@/features/proposal/proposal-dialog";
import { TaskRow } from "@/features/tasks/task-row";
import { api, type Package, said } from "@/lib/api";
import { usePeople } from "@/lib/names";

type NewTask = { title: string; assignee_id: string | null; due_date: string | null };

export function PackageTasks({ one, mayPropose }: { one: Package; mayPropose: boolean }) {
  const t = useTranslations();
  const people = usePeople().data ?? [];
  const [isOpen, setOpen] = useState(false);
  const query = useQuery({
    queryKey: ["tasks", "package", one.id],
    queryFn: ({ signal }) =>
      said(
        api.GET("/api/v1/tasks", {
          params: { query: { package_id: one.id, sort: "due_date", limit: 100 } },
          signal,
        }),
      ),
  });
  const typed = (form: FormData, name: string) => String(form.get(name) ?? "").trim();
  return (
    <Card
      title={t("package.tasks")}
      aside={mayPropose ? <Button onClick={() => setOpen(true)}>{t("tasks.new")}</Button> : null}
    >
      <Loaded query={query}>
        {(page) => (
          <ul className="rows">
            {page.items.length === 0 ? <li className="muted">{t("package.tasksNone")}</li> : null}
            {page.items.map((task) => (
              <TaskRow key={task.id} task={task} />
            ))}
          </ul>
        )}
      </Loaded>
      {isOpen ? (
        <ProposalDialog<NewTask>
          title={t("tasks.new")}
          gather={(form) => ({
            title: typed(form, "title"),
            assignee_id: typed(form, "assignee_id") || null,
            due_date: typed(form, "due_date") || null,
          })}
          send={(task, { dryRun, intent }) =>
            said(
              api.POST("/api/v1/tasks", {
                params: { query: { dry_run: dryRun }, header: intent },
                body: { ...task, package_id: one.id },
              }),
            )
          }
          onClose={() => setOpen(false)}
        >
          {(problem) => (
            <>
              <TextField name="title" label={t("field.title")} error={problem?.of("title")} required wide />
              <SelectField
                name="assignee_id"
                label={t("field.assignee_id")}
                error={problem?.of("assignee_id")}
                choices={[
                  { value: "", label: t("packages.nobody") },
                  ...people.map((person) => ({ value: person.id, label: person.name })),
                ]}
              />
              <TextField
                name="due_date"
                label={t("field.due_date")}
                type="date"
                error={problem?.of("due_date")}
              />
            </>
          )}
        </ProposalDialog>
      ) : null}
    </Card>
  );
}
