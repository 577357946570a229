"use client";

import { type ReactNode, useSyncExternalStore } from "react";
import { useLocale, useTranslations } from "use-intl";
import * as format from "@/lib/format";
import type { Messages } from "@/lib/messages";
import { useTimeZone } from "@/lib/viewer";

type Tone = "good" | "warn" | "bad" | "info" | "idle";
type Status = keyof Messages["status"];

const TONES: Readonly<Record<Status, Tone>> = {
  draft: "idle",
  submitted: "info",
  in_review: "info",
  approved: "good",
  awarded: "good",
  active: "good",
  on_hold: "warn",
  completed: "idle",
  cancelled: "bad",
  pending: "warn",
  in_progress: "info",
  blocked: "bad",
  review_needed: "warn",
  confirmation_required: "warn",
  applied: "good",
  rejected: "bad",
  changes_requested: "warn",
  withdrawn: "idle",
  voided: "idle",
  expired: "idle",
};

export function isStatus(text: string): text is Status {
  return Object.hasOwn(TONES, text);
}

/** The word for a status; one that a policy of one's own added is shown as it is written there. */
export function useStatusWord(): (status: string) => string {
  const t = useTranslations("status");
  return (status) => (isStatus(status) ? t(status) : status.replaceAll("_", " "));
}

export function StatusBadge({ status }: { status: string }) {
  const word = useStatusWord();
  return (
    <span className="badge" data-tone={isStatus(status) ? TONES[status] : "idle"}>
      {word(status)}
    </span>
  );
}

export function Money({
  amount,
  currency,
}: {
  amount?: string | null | undefined;
  currency?: string | null | undefined;
}) {
  const locale = useLocale();
  if (!amount || !currency) return <span className="muted">–</span>;
  return <span className="number">{format.money(amount, currency, locale)}</span>;
}

export function Day({ value }: { value?: string | null | undefined }) {
  const locale = useLocale();
  if (!value) return <span className="muted">–</span>;
  return (
    <time className="number" dateTime={value}>
      {format.day(value, locale)}
    </time>
  );
}

/** A moment in the project's time zone; how long ago it was is said where a person asks by pointing at it. */
export function Moment({ value }: { value: string }) {
  const locale = useLocale();
  const zone = useTimeZone();
  return (
    <time className="number" dateTime={value} title={zone}>
      {format.moment(value, locale, zone)}
    </time>
  );
}

const MINUTE = 60_000;

function subscribe(tick: () => void): () => void {
  const timer = setInterval(tick, MINUTE);
  return () => clearInterval(timer);
}

/** "3 hours ago", kept true while the page is open; the moment itself until the browser has taken over. */
export function Ago({ value }: { value: string }) {
  const locale = useLocale();
  const zone = useTimeZone();
  const now = useSyncExternalStore(
    subscribe,
    () => Math.floor(Date.now() / MINUTE) * MINUTE,
    () => null,
  );
  const whole = format.moment(value, locale, zone);
  return (
    <time className="number" dateTime={value} title={whole}>
      {now === null ? whole : format.ago(value, locale, now)}
    </time>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <p>
        <strong>{title}</strong>
      </p>
      <div className="muted">{children}</div>
    </div>
  );
}

const WIDTHS = ["70%", "90%", "55%", "80%", "64%"];

/** Where something will stand in a moment. */
export function Skeleton() {
  return (
    <div className="skeleton" aria-hidden="true">
      {WIDTHS.map((width) => (
        <i key={width} style={{ width }} />
      ))}
    </div>
  );
}
