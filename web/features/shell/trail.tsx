"use client";

import Link from "next/link";
import { usePathname } from "next/navigation";
import { useTranslations } from "use-intl";
import type { Messages } from "@/lib/messages";

/** Where one is, from the project down; each part but the last leads there. */
export function Trail() {
  const t = useTranslations("nav");
  const parts = usePathname().split("/").filter(Boolean);
  const word = (part: string) =>
    t.has(part as keyof Messages["nav"]) ? t(part as "packages") : decodeURIComponent(part);
  return (
    <nav className="trail small" aria-label={t("trail")}>
      <ol>
        <li>{parts.length === 0 ? t("home") : <Link href="/">{t("home")}</Link>}</li>
        {parts.map((part, index) => {
          const href = `/${parts.slice(0, index + 1).join("/")}`;
          return (
            <li key={href}>
              {index === parts.length - 1 ? (
                <span aria-current="page">{word(part)}</span>
              ) : (
                <Link href={href}>{word(part)}</Link>
              )}
            </li>
          );
        })}
      </ol>
    </nav>
  );
}
