"use client";

import { type FormEvent, type ReactNode, useState } from "react";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { TextField } from "@/components/field";
import { ProblemNotice } from "@/components/problem-notice";
import { useAttempt } from "@/lib/attempt";
import type { Problem } from "@/lib/problem";

/** What somebody proves themselves by: a password, and the code of a second factor where there is one. */
export type Proof = { password: string; code?: string };

/** A form that takes a proof, and asks for the second factor once it turns out to be needed. */
export function ProofForm({
  submit,
  prove,
  children,
}: {
  /** What the button says. */
  submit: string;
  /** Sends the proof, with what else the form holds; it throws a Problem where it is refused. */
  prove: (proof: Proof, form: FormData) => Promise<void>;
  /** Fields that come before the password. */
  children?: (problem: Problem | null) => ReactNode;
}) {
  const t = useTranslations("signIn");
  const { attempt, isBusy, problem: refused } = useAttempt();
  const [needsCode, setNeedsCode] = useState(false);
  const problem = refused?.code === "second_factor_needed" ? null : refused;

  function send(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const code = String(form.get("code") ?? "").trim();
    const proof = { password: String(form.get("password") ?? ""), ...(code ? { code } : {}) };
    void attempt(
      () => prove(proof, form),
      (found) => found.code === "second_factor_needed" && setNeedsCode(true),
    );
  }

  return (
    <form className="stack" onSubmit={send} noValidate>
      {children?.(problem)}
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
        {submit}
      </Button>
    </form>
  );
}
