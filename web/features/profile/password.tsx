"use client";

import { useMutation } from "@tanstack/react-query";
import { type FormEvent, useRef } from "react";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { Card } from "@/components/card";
import { TextField } from "@/components/field";
import { ProblemNotice } from "@/components/problem-notice";
import { api, newIntent, said } from "@/lib/api";
import { asProblem } from "@/lib/problem";

/** Another password: everywhere else one is signed out by it. */
export function Password() {
  const t = useTranslations("profile");
  const form = useRef<HTMLFormElement>(null);
  const change = useMutation({
    mutationFn: (body: { current_password: string; new_password: string }) =>
      said(api.POST("/api/v1/auth/password", { params: { header: newIntent() }, body })),
    onSuccess: () => form.current?.reset(),
  });
  const problem = change.isError ? asProblem(change.error) : null;

  function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const typed = new FormData(event.currentTarget);
    change.mutate({
      current_password: String(typed.get("current_password") ?? ""),
      new_password: String(typed.get("new_password") ?? ""),
    });
  }

  return (
    <Card title={t("password")}>
      <form ref={form} className="card-body" onSubmit={submit} noValidate>
        <TextField
          name="current_password"
          type="password"
          autoComplete="current-password"
          label={t("currentPassword")}
          error={problem?.of("current_password")}
        />
        <TextField
          name="new_password"
          type="password"
          autoComplete="new-password"
          label={t("newPassword")}
          error={problem?.of("new_password")}
        />
        {problem ? <ProblemNotice error={problem} /> : null}
        <p role="status">{change.isSuccess ? t("changed") : null}</p>
        <div className="actions">
          <Button type="submit" busy={change.isPending}>
            {t("change")}
          </Button>
        </div>
      </form>
    </Card>
  );
}
