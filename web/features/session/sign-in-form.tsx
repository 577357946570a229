"use client";

import { type FormEvent, useState } from "react";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { TextField } from "@/components/field";
import { ProblemNotice } from "@/components/problem-notice";
import { api, newIntent, said } from "@/lib/api";
import { asProblem, type Problem } from "@/lib/problem";

/**
 * E-mail and password, and the second factor where there is one. The session is a cookie that no script reads;
 * `onDone` is called once it is there.
 */
export function SignInForm({ onDone }: { onDone: () => void | Promise<void> }) {
  const t = useTranslations("signIn");
  const [needsCode, setNeedsCode] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isBusy, setBusy] = useState(false);

  async function signIn(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const code = String(form.get("code") ?? "").trim();
    setBusy(true);
    setProblem(null);
    try {
      await said(
        api.POST("/api/v1/auth/login", {
          params: { header: newIntent() },
          body: {
            email: String(form.get("email") ?? "").trim(),
            password: String(form.get("password") ?? ""),
            session: "cookie",
            ...(code ? { code } : {}),
          },
        }),
      );
      await onDone();
    } catch (error) {
      const found = asProblem(error);
      if (found.code === "second_factor_needed") setNeedsCode(true);
      else setProblem(found);
    } finally {
      setBusy(false);
    }
  }

  return (
    <form className="stack" onSubmit={(event) => void signIn(event)} noValidate>
      <TextField
        name="email"
        type="email"
        label={t("email")}
        autoComplete="username"
        required
        autoFocus
        error={problem?.of("email")}
      />
      <TextField
        name="password"
        type="password"
        label={t("password")}
        autoComplete="current-password"
        required
        error={problem?.of("password")}
      />
      {needsCode ? (
        <TextField
          name="code"
          label={t("code")}
          autoComplete="one-time-code"
          autoFocus
          error={problem?.of("code")}
        />
      ) : null}
      {problem && problem.errors.length === 0 ? <ProblemNotice error={problem} /> : null}
      <Button type="submit" look="main" busy={isBusy}>
        {t("submit")}
      </Button>
    </form>
  );
}
