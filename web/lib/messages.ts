import de from "@/messages/de.json";
import en from "@/messages/en.json";

export const LOCALES = ["en", "de"] as const;
export type Locale = (typeof LOCALES)[number];
export type Messages = typeof en;

declare module "use-intl" {
  interface AppConfig {
    Locale: Locale;
    Messages: Messages;
  }
}

const CATALOGUES: Readonly<Record<Locale, Messages>> = { en, de };

export function messagesOf(locale: Locale): Messages {
  return CATALOGUES[locale];
}

/** The language chosen before, else the first of the browser's that we speak, else English. */
export function localeOf(chosen: string | undefined, accepted: string | null): Locale {
  const wanted = [chosen, ...(accepted ?? "").split(",").map((one) => one.split(";")[0]?.trim().slice(0, 2))];
  return wanted.find((one): one is Locale => LOCALES.some((known) => known === one)) ?? "en";
}
