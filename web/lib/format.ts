/** Dates, numbers and money as people of a place write them. Amounts stay the exact decimals they are. */

const NO_MINOR_UNIT = 0;

/** `1234567.5` of EUR as "€1,234,567.50": the digits are grouped as text, never through a float. */
export function money(amount: string, currency: string, locale: string): string {
  const shown = new Intl.NumberFormat(locale, { style: "currency", currency, currencyDisplay: "code" });
  const [whole = "0", cents = ""] = amount.replace("-", "").split(".");
  const least = shown.resolvedOptions().minimumFractionDigits ?? NO_MINOR_UNIT;
  const fraction = trimTo(cents, least);
  const parts = shown.formatToParts(amount.startsWith("-") ? -1n : 1n);
  const grouped = new Intl.NumberFormat(locale).format(BigInt(whole));
  return parts
    .filter((part) => part.type !== "group")
    .map((part) => {
      if (part.type === "integer")
        return grouped + (least === 0 && fraction ? pointOf(locale) + fraction : "");
      return part.type === "fraction" ? fraction : part.value;
    })
    .join("");
}

function trimTo(cents: string, least: number): string {
  const needed = cents.replace(/0+$/, "");
  return needed.padEnd(Math.max(least, needed.length), "0");
}

function pointOf(locale: string): string {
  return (
    new Intl.NumberFormat(locale).formatToParts(1.5).find((part) => part.type === "decimal")?.value ?? "."
  );
}

/** A calendar day as it is: it has no time zone. */
export function day(iso: string, locale: string): string {
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeZone: "UTC" }).format(
    new Date(`${iso}T00:00:00Z`),
  );
}

/** A moment, in the project's time zone. */
export function moment(iso: string, locale: string, timeZone: string): string {
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short", timeZone }).format(
    new Date(iso),
  );
}

const STEPS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_557_600],
  ["month", 2_629_800],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

/** How long ago, or how soon: "3 hours ago". */
export function ago(iso: string, locale: string, now: number = Date.now()): string {
  const seconds = (new Date(iso).getTime() - now) / 1000;
  const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
  for (const [unit, length] of STEPS) {
    if (Math.abs(seconds) >= length) return relative.format(Math.trunc(seconds / length), unit);
  }
  return relative.format(0, "minute");
}

/** Today where the project is, as the API writes days. */
export function today(timeZone: string, now: Date = new Date()): string {
  return new Intl.DateTimeFormat("en-CA", { timeZone, dateStyle: "short" }).format(now);
}
