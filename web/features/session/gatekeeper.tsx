"use client";

import { useEffect, useRef, useState } from "react";
import { useTranslations } from "use-intl";
import { Dialog } from "@/components/dialog";
import { ProofForm } from "@/features/session/proof-form";
import { SignInForm } from "@/features/session/sign-in-form";
import { api, newIntent, said } from "@/lib/api";
import { attend, type Need } from "@/lib/gate";
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
  return (
    <Dialog title={t("stepUp")} onClose={onClose}>
      <p>{t("stepUpText")}</p>
      <ProofForm
        submit={t("confirm")}
        prove={async (proof) => {
          await said(
            api.POST("/api/v1/auth/reauthenticate", { params: { header: newIntent() }, body: proof }),
          );
          onDone();
        }}
      />
    </Dialog>
  );
}
