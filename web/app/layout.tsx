import type { Metadata, Viewport } from "next";
import { cookies, headers } from "next/headers";
import type { ReactNode } from "react";
import { Providers } from "@/features/shell/providers";
import { COOKIES } from "@/lib/cookies";
import { localeOf, messagesOf } from "@/lib/messages";
import "./globals.css";

export const metadata: Metadata = {
  title: { default: "PMIS", template: "%s · PMIS" },
  icons: "/icon.svg",
  robots: { index: false },
};

export const viewport: Viewport = { width: "device-width", initialScale: 1 };

const THEMES = ["system", "light", "dark"];
const DENSITIES = ["comfortable", "compact"];

export default async function Root({ children }: { children: ReactNode }) {
  const [kept, asked] = [await cookies(), await headers()];
  const locale = localeOf(kept.get(COOKIES.locale)?.value, asked.get("accept-language"));
  const oneOf = (known: string[], value: string | undefined) =>
    known.find((one) => one === value) ?? known[0];
  return (
    <html
      lang={locale}
      data-theme={oneOf(THEMES, kept.get(COOKIES.theme)?.value)}
      data-density={oneOf(DENSITIES, kept.get(COOKIES.density)?.value)}
    >
      <body>
        <Providers locale={locale} messages={messagesOf(locale)}>
          {children}
        </Providers>
      </body>
    </html>
  );
}
