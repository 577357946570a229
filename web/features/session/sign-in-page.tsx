"use client";

import { useTranslations } from "use-intl";
import { SignInForm } from "@/features/session/sign-in-form";
import type { Schemas } from "@/lib/api";

export function SignInPage({
  next,
  providers,
}: {
  next: string;
  providers: readonly Schemas["ProviderOut"][];
}) {
  const t = useTranslations();
  return (
    <div className="sign-in">
      <main>
        <div className="line">
          <img src="/icon.svg" alt="" width={36} height={36} />
          <h1>{t("signIn.title")}</h1>
        </div>
        {/* A whole new page: nothing of who was here before stays in memory. */}
        <SignInForm onDone={() => window.location.assign(next)} />
        {providers.map((provider) => (
          <a key={provider.name} className="button" href={provider.start}>
            {t("signIn.with", { name: provider.title })}
          </a>
        ))}
      </main>
    </div>
  );
}
