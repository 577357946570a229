"use client";

import { type FormEvent, useEffect, useRef, useState } from "react";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { Dialog } from "@/components/dialog";
import { TextField } from "@/components/field";
import { ProblemNotice } from "@/components/problem-notice";
import { SignInForm } from "@/features/session/sign-in-form";
import { api, newIntent, said } from "@/lib/api";
import { attend, type Need } from "@/lib/gate";
import { asProblem, type Problem } from "@/lib/problem";
import { useViewer } from "@/lib/viewer";

type Asked = { need: Need; answer: (isDone: boolean) => void };

/** Asks, over whatever is open, for what a request still needs; the request then goes on by itself. */
export function Gatekeeper() {
  const t = useTranslations("signIn");
  const { me } = useViewer();
  const [asked, setAsked] = useState<Asked | null>(null);
  const [isOther, setOther] = useState(false);
  const open = useRef<Asked | null>(null);

  useEffect(() => {
    const leave = attend(
      (need) =>
        new Promise<boolean>((answer) => {
          open.current = { need, answer };
          setOther(false);
          setAsked(open.current);
        }),
    );
    return () => {
      leave();
      open.current?.answer(false);
    };
  }, []);

  function finish(isDone: boolean) {
    open.current?.answer(isDone);
    open.current = null;
    setAsked(null);
  }

  if (asked === null) return null;
  if (asked.need === "step-up") return <StepUp onDone={() => finish(true)} onClose={() => finish(false)} />;
  return (
    <Dialog title={t("again")} onClose={() => finish(false)}>
      <p>{t("againText", { name: me.name })}</p>
      {isOther ? (
        <p className="notice" data-tone="warn" role="alert">
          {t("other", { name: me.name })}
        </p>
      ) : null}
      <SignInForm
        onDone={async () => {
          const now = await said(api.GET("/api/v1/auth/me"));
          // What one person typed is never sent in the name of another.
          if (now.id === me.id) finish(true);
          else setOther(true);
        }}
      />
    </Dialog>
  );
}

function StepUp({ onDone, onClose }: { onDone: () => void; onClose: () => void }) {
  const t = useTranslations("signIn");
  const [needsCode, setNeedsCode] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isBusy, setBusy] = useState(false);

  async function prove(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const code = String(form.get("code") ?? "").trim();
    setBusy(true);
    setProblem(null);
    try {
      await said(
        api.POST("/api/v1/auth/reauthenticate", {
          params: { header: newIntent() },
          body: { password: String(form.get("password") ?? ""), ...(code ? { code } : {}) },
        }),
      );
      onDone();
    } catch (error) {
      const found = asProblem(error);
      if (found.code === "second_factor_needed") setNeedsCode(true);
      else setProblem(found);
    } finally {
      setBusy(false);
    }
  }

  return (
    <Dialog title={t("stepUp")} onClose={onClose}>
      <p>{t("stepUpText")}</p>
      <form className="stack" onSubmit={(event) => void prove(event)} noValidate>
        <TextField
          name="password"
          type="password"
          label={t("password")}
          autoComplete="current-password"
          error={problem?.of("password")}
        />
        {needsCode ? (
          <TextField name="code" label={t("code")} autoComplete="one-time-code" error={problem?.of("code")} />
        ) : null}
        {problem ? <ProblemNotice error={problem} /> : null}
        <div className="actions">
          <Button type="submit" look="main" busy={isBusy}>
            {t("confirm")}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
