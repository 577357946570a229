"use client";

import { useTranslations } from "use-intl";
import { TextField } from "@/components/field";
import { ProofForm } from "@/features/session/proof-form";
import { api, newIntent, said } from "@/lib/api";

/**
 * E-mail and password, and the second factor where there is one. The session is a cookie that no script reads;
 * `onDone` is called once it is there.
 */
export function SignInForm({ onDone }: { onDone: () => void | Promise<void> }) {
  const t = useTranslations("signIn");
  return (
    <ProofForm
      submit={t("submit")}
      prove={async (proof, form) => {
        await said(
          api.POST("/api/v1/auth/login", {
            params: { header: newIntent() },
            body: { email: String(form.get("email") ?? "").trim(), session: "cookie", ...proof },
          }),
        );
        await onDone();
      }}
    >
      {(problem) => (
        <TextField
          name="email"
          type="email"
          label={t("email")}
          autoComplete="username"
          required
          autoFocus
          error={problem?.of("email")}
        />
      )}
    </ProofForm>
  );
}
