"use client";

import Link from "next/link";
import { useTranslations } from "use-intl";
import { Empty } from "@/components/show";

export function NotFound() {
  const t = useTranslations();
  return (
    <Empty title={t("problem.notFound")}>
      <p>{t("problem.notFoundText")}</p>
      <Link href="/">{t("nav.home")}</Link>
    </Empty>
  );
}
