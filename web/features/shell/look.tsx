"use client";

import { useState } from "react";
import { useLocale, useTranslations } from "use-intl";
import { Dialog } from "@/components/dialog";
import { SelectField } from "@/components/field";
import { remember } from "@/lib/cookies";

/** Colours, density and language: seen at once, and remembered by the browser. */
export function Look({ onClose }: { onClose: () => void }) {
  const t = useTranslations("look");
  const locale = useLocale();
  const root = document.documentElement;
  const [theme, setTheme] = useState(root.dataset.theme ?? "system");
  const [density, setDensity] = useState(root.dataset.density ?? "comfortable");
  return (
    <Dialog title={t("title")} onClose={onClose}>
      <SelectField
        label={t("theme")}
        value={theme}
        choices={(["system", "light", "dark"] as const).map((one) => ({ value: one, label: t(one) }))}
        onChange={(event) => {
          setTheme(event.target.value);
          root.dataset.theme = event.target.value;
          remember("theme", event.target.value);
        }}
      />
      <SelectField
        label={t("density")}
        value={density}
        choices={(["comfortable", "compact"] as const).map((one) => ({ value: one, label: t(one) }))}
        onChange={(event) => {
          setDensity(event.target.value);
          root.dataset.density = event.target.value;
          remember("density", event.target.value);
        }}
      />
      <SelectField
        label={t("language")}
        value={locale}
        choices={[
          { value: "en", label: "English" },
          { value: "de", label: "Deutsch" },
        ]}
        onChange={(event) => {
          remember("locale", event.target.value);
          window.location.reload();
        }}
      />
    </Dialog>
  );
}
