"use client";

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Command } from "cmdk";
import { useRouter } from "next/navigation";
import { useDeferredValue, useState } from "react";
import { useTranslations } from "use-intl";
import { Dialog } from "@/components/dialog";
import { PAGES } from "@/features/shell/shell";
import { api, said } from "@/lib/api";
import { useViewer } from "@/lib/viewer";

const HITS = 8;

/** Every page, every package by code or words, and what can be done from anywhere. */
export function Palette({ onClose, onLook }: { onClose: () => void; onLook: () => void }) {
  const t = useTranslations();
  const router = useRouter();
  const { project } = useViewer();
  const [typed, setTyped] = useState("");
  const words = useDeferredValue(typed.trim());
  const found = useQuery({
    queryKey: ["packages", "palette", project?.id, words],
    enabled: project !== null && words.length > 1,
    placeholderData: keepPreviousData,
    queryFn: async ({ signal }) =>
      (
        await said(
          api.GET("/api/v1/packages", {
            params: { query: { project: project?.id ?? "", q: words, limit: HITS } },
            signal,
          }),
        )
      ).items,
  });

  function go(href: string) {
    onClose();
    router.push(href);
  }

  return (
    <Dialog title={t("palette.open")} onClose={onClose}>
      <Command label={t("palette.open")} loop>
        <Command.Input
          placeholder={t("palette.placeholder")}
          value={typed}
          onValueChange={setTyped}
          aria-label={t("palette.placeholder")}
        />
        <Command.List label={t("palette.open")}>
          <Command.Empty>{t("palette.nothing")}</Command.Empty>
          <Command.Group heading={t("palette.pages")}>
            {PAGES.map((page) => (
              <Command.Item
                key={page.href}
                value={`page ${t(`nav.${page.name}`)}`}
                onSelect={() => go(page.href)}
              >
                {t(`nav.${page.name}`)}
              </Command.Item>
            ))}
          </Command.Group>
          <Command.Group heading={t("palette.actions")}>
            <Command.Item value={t("packages.new")} onSelect={() => go("/packages?new=1")}>
              {t("packages.new")}
            </Command.Item>
            <Command.Item value={t("nav.profile")} onSelect={() => go("/profile")}>
              {t("nav.profile")}
            </Command.Item>
            <Command.Item value={t("look.title")} onSelect={onLook}>
              {t("look.title")}
            </Command.Item>
          </Command.Group>
          {words.length > 1 && found.data && found.data.length > 0 ? (
            <Command.Group heading={t("palette.packages")} forceMount>
              {found.data.map((one) => (
                <Command.Item
                  key={one.id}
                  forceMount
                  value={`package ${one.code} ${one.title}`}
                  onSelect={() => go(`/packages/${one.code}`)}
                >
                  <span>{one.title}</span>
                  <span className="mono small muted">{one.code}</span>
                </Command.Item>
              ))}
            </Command.Group>
          ) : null}
        </Command.List>
      </Command>
    </Dialog>
  );
}
