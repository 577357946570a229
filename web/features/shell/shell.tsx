"use client";

import Link from "next/link";
import { usePathname, useRouter } from "next/navigation";
import { type ReactNode, useEffect, useState } from "react";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { SelectField } from "@/components/field";
import { useApprovals } from "@/features/approvals/inbox";
import { Gatekeeper } from "@/features/session/gatekeeper";
import { Look } from "@/features/shell/look";
import { Palette } from "@/features/shell/palette";
import { Shortcuts } from "@/features/shell/shortcuts";
import { Trail } from "@/features/shell/trail";
import { api, newIntent, said } from "@/lib/api";
import { remember } from "@/lib/cookies";
import { isTyping } from "@/lib/keys";
import { useLive } from "@/lib/live";
import { useViewer } from "@/lib/viewer";

export const PAGES = [
  { href: "/", name: "home" },
  { href: "/packages", name: "packages" },
  { href: "/approvals", name: "approvals" },
  { href: "/tasks", name: "tasks" },
  { href: "/chat", name: "chat" },
  { href: "/audit", name: "audit" },
] as const;

type Open = "palette" | "keys" | "look" | null;

/** `g` and then a letter goes to a page. */
const GO: Readonly<Record<string, string>> = { h: "/", p: "/packages", a: "/approvals", t: "/tasks" };
const SECOND_KEY = 1_000;

/** The frame around every page of somebody who is signed in. */
export function Shell({ children }: { children: ReactNode }) {
  const t = useTranslations();
  const router = useRouter();
  const path = usePathname();
  const isHeard = useLive();
  const [open, setOpen] = useState<Open>(null);
  const [hasMenu, setMenu] = useState(false);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the menu of a narrow screen closes as one goes elsewhere
  useEffect(() => setMenu(false), [path]);

  useEffect(() => {
    let wasG = 0;
    function key(event: KeyboardEvent) {
      if ((event.ctrlKey || event.metaKey) && event.key === "k") {
        event.preventDefault();
        if (document.querySelector("dialog[open]") === null) setOpen("palette");
        return;
      }
      if (isTyping(event)) return;
      const page = GO[event.key];
      if (page !== undefined && Date.now() - wasG < SECOND_KEY) {
        event.preventDefault();
        event.stopImmediatePropagation();
        router.push(page);
      } else if (event.key === "?") {
        setOpen("keys");
      } else if (event.key === "/") {
        event.preventDefault();
        document.querySelector<HTMLElement>("[data-search]")?.focus();
      }
      wasG = event.key === "g" ? Date.now() : 0;
    }
    document.addEventListener("keydown", key, { capture: true });
    return () => document.removeEventListener("keydown", key, { capture: true });
  }, [router]);

  return (
    <div className="shell">
      <a className="skip" href="#content">
        {t("app.skip")}
      </a>
      <Side isOpen={hasMenu} />
      <div>
        <header className="bar">
          <div className="line">
            <span className="only-narrow">
              <Button look="quiet" aria-expanded={hasMenu} onClick={() => setMenu(!hasMenu)}>
                ☰ {t("app.menu")}
              </Button>
            </span>
            <Trail />
          </div>
          <div className="line">
            <span className="live" data-heard={isHeard} role="status">
              {isHeard ? t("app.live") : t("app.paused")}
            </span>
            <Button onClick={() => setOpen("palette")}>
              {t("palette.open")} <kbd aria-hidden="true">Ctrl K</kbd>
            </Button>
            <Button look="quiet" onClick={() => setOpen("keys")} aria-label={t("keys.title")}>
              ?
            </Button>
          </div>
        </header>
        <main className="page" id="content" tabIndex={-1}>
          {children}
        </main>
      </div>
      {open === "palette" ? <Palette onClose={() => setOpen(null)} onLook={() => setOpen("look")} /> : null}
      {open === "keys" ? <Shortcuts onClose={() => setOpen(null)} /> : null}
      {open === "look" ? <Look onClose={() => setOpen(null)} /> : null}
      <Gatekeeper />
    </div>
  );
}

function Side({ isOpen }: { isOpen: boolean }) {
  const t = useTranslations("nav");
  const look = useTranslations("look");
  const path = usePathname();
  const { me, project, projects } = useViewer();
  const waiting = useApprovals("inbox").data?.length ?? 0;
  const [hasLook, setLook] = useState(false);

  return (
    <aside className="side" data-open={isOpen}>
      <Link className="brand" href="/">
        <img src="/icon.svg" alt="" width={28} height={28} />
        PMIS
      </Link>
      {projects.length > 1 ? (
        <SelectField
          label={t("project")}
          value={project?.id ?? ""}
          choices={projects.map((one) => ({ value: one.id, label: one.name }))}
          onChange={(event) => {
            remember("project", event.target.value);
            window.location.assign("/");
          }}
        />
      ) : (
        <p className="small muted">{project?.name}</p>
      )}
      <nav className="nav" aria-label={t("main")}>
        <ul>
          {PAGES.map((page) => {
            const isHere = page.href === "/" ? path === "/" : path.startsWith(page.href);
            return (
              <li key={page.href}>
                <Link href={page.href} aria-current={isHere ? "page" : undefined}>
                  {t(page.name)}
                  {page.name === "approvals" && waiting > 0 ? <span className="badge">{waiting}</span> : null}
                </Link>
              </li>
            );
          })}
        </ul>
      </nav>
      <div className="stack" style={{ marginTop: "auto" }}>
        <Link href="/profile" aria-current={path === "/profile" ? "page" : undefined}>
          {me.name}
        </Link>
        <Button onClick={() => setLook(true)}>{look("title")}</Button>
        <Button onClick={() => void signOut()}>{t("signOut")}</Button>
      </div>
      {hasLook ? <Look onClose={() => setLook(false)} /> : null}
    </aside>
  );
}

async function signOut(): Promise<void> {
  // Whether or not the server could be told, the next page asks it who is there.
  await said(api.POST("/api/v1/auth/logout", { params: { header: newIntent() }, body: {} })).catch(
    () => null,
  );
  window.location.assign("/sign-in");
}
