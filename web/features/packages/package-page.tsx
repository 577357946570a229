"use client";

import { useQuery } from "@tanstack/react-query";
import { useRouter, useSearchParams } from "next/navigation";
import { useState } from "react";
import { useLocale, useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { Card } from "@/components/card";
import { useFieldWord, useValueText } from "@/components/diff";
import { Loaded } from "@/components/query";
import { Money, StatusBadge, useStatusWord } from "@/components/show";
import { Comments } from "@/features/packages/comments";
import { PackageFields } from "@/features/packages/fields";
import { Life } from "@/features/packages/life";
import { PackageTasks } from "@/features/packages/package-tasks";
import { ProposalDialog } from "@/features/proposal/proposal-dialog";
import { api, etagOf, type Package, type Schemas, said } from "@/lib/api";
import * as format from "@/lib/format";
import { changedValues, type PackageValues } from "@/lib/status";
import { useRoles, useTimeZone } from "@/lib/viewer";

const SHOWN = [
  "owner_id",
  "vendor_id",
  "planned_start",
  "planned_end",
  "actual_start",
  "actual_end",
  "package_type",
  "external_ref",
] as const;

const MAY_PROPOSE = ["analyst", "operator", "admin", "executive"];

function usePackage(code: string, first: Package | null) {
  return useQuery({
    queryKey: ["package", code],
    ...(first ? { initialData: first } : {}),
    queryFn: ({ signal }) =>
      said(api.GET("/api/v1/packages/{reference}", { params: { path: { reference: code } }, signal })),
  });
}

/** The end of a day, where the project is, as the API takes moments: what was true when that day was over. */
function endOf(dayText: string, timeZone: string): string {
  const utc = new Date(`${dayText}T23:59:59Z`);
  const there = new Date(utc.toLocaleString("en-US", { timeZone }));
  const here = new Date(utc.toLocaleString("en-US", { timeZone: "UTC" }));
  return new Date(utc.getTime() - (there.getTime() - here.getTime())).toISOString();
}

/** A package: what it is, was, and may become. */
export function PackagePage({ code, first }: { code: string; first: Package | null }) {
  const query = usePackage(code, first);
  return <Loaded query={query}>{(one) => <Whole one={one} refresh={() => void query.refetch()} />}</Loaded>;
}

function Whole({ one, refresh }: { one: Package; refresh: () => void }) {
  const t = useTranslations();
  const [isOpen, setOpen] = useState(false);
  const roles = useRoles();
  const mayPropose = MAY_PROPOSE.some((role) => roles.has(role));
  return (
    <>
      <div className="page-head">
        <div className="stack">
          <span className="line muted">
            <span className="mono">{one.code}</span>
            <StatusBadge status={one.status} />
          </span>
          <h1>{one.title}</h1>
        </div>
        {mayPropose ? (
          <Button look="main" onClick={() => setOpen(true)}>
            {t("do.edit")}
          </Button>
        ) : null}
      </div>
      <div className="two">
        <div className="stack">
          <Overview one={one} />
          <PackageTasks one={one} mayPropose={mayPropose} />
          <Comments entityType="package" entityId={one.id} mayPropose={mayPropose} />
        </div>
        <div className="stack">
          <NextSteps one={one} refresh={refresh} />
          <Life reference={one.code} />
        </div>
      </div>
      {isOpen ? (
        <ProposalDialog<{ values: PackageValues }>
          title={t("propose.change", { label: one.code })}
          gather={(form) => {
            const values = changedValues(form, one);
            return Object.keys(values).length > 0 ? { values } : null;
          }}
          send={({ values, reason }, { dryRun, intent }) =>
            said(
              api.PATCH("/api/v1/packages/{reference}", {
                params: {
                  path: { reference: one.id },
                  query: { dry_run: dryRun },
                  header: { ...intent, "If-Match": etagOf(one) },
                },
                body: { ...values, reason } as Schemas["PackagePatch"],
              }),
            )
          }
          onRefresh={refresh}
          onClose={() => setOpen(false)}
        >
          {(problem) => <PackageFields one={one} problem={problem} />}
        </ProposalDialog>
      ) : null}
    </>
  );
}

/** The fields, now or on a day that was; what differs from now is marked with what it is now. */
function Overview({ one }: { one: Package }) {
  const t = useTranslations();
  const zone = useTimeZone();
  const locale = useLocale();
  const router = useRouter();
  const params = useSearchParams();
  const asOf = params.get("as_of") ?? "";
  const today = format.today(zone);
  const born = format.today(zone, new Date(one.created_at));
  const past = useQuery({
    queryKey: ["package", one.code, "as_of", asOf],
    enabled: asOf !== "",
    queryFn: ({ signal }) =>
      said(
        api.GET("/api/v1/packages/{reference}", {
          params: { path: { reference: one.id }, query: { as_of: endOf(asOf, zone) } },
          signal,
        }),
      ),
  });
  const days = Math.max(1, Math.round((Date.parse(today) - Date.parse(born)) / 86_400_000));
  const at = asOf === "" ? days : Math.round((Date.parse(asOf) - Date.parse(born)) / 86_400_000);

  function go(day: string) {
    router.replace(day >= today ? "?" : `?as_of=${day}`, { scroll: false });
  }

  return (
    <Card
      title={t("package.overview")}
      aside={
        <div className="line">
          <label className="small" htmlFor="as-of">
            {t("package.asOf")}
          </label>
          <input
            type="range"
            aria-label={t("package.asOf")}
            min={0}
            max={days}
            value={at}
            aria-valuetext={asOf === "" ? t("package.asOfNow") : format.day(asOf, locale)}
            onChange={(event) => go(dayAfter(born, Number(event.target.value)))}
          />
          <input
            id="as-of"
            className="input"
            style={{ width: "auto", minHeight: 32 }}
            type="date"
            min={born}
            max={today}
            value={asOf || today}
            onChange={(event) => event.target.value && go(event.target.value)}
          />
        </div>
      }
    >
      <div className="card-body">
        {asOf === "" ? (
          <Fields shown={one} now={one} />
        ) : (
          <Loaded query={past}>
            {(then) => (
              <>
                <p className="notice" data-tone="warn" role="status">
                  {t("package.asOfShown", { when: format.day(asOf, locale) })}
                </p>
                <Fields shown={then} now={one} />
              </>
            )}
          </Loaded>
        )}
      </div>
    </Card>
  );
}

function dayAfter(start: string, days: number): string {
  return new Date(Date.parse(start) + days * 86_400_000).toISOString().slice(0, 10);
}

function Fields({ shown, now }: { shown: Package; now: Package }) {
  const t = useTranslations();
  const word = useFieldWord();
  const text = useValueText();
  const more = Object.entries(shown.data ?? {});
  const isMoneyChanged = shown.amount !== now.amount || shown.currency !== now.currency;
  const differs = (field: (typeof SHOWN)[number] | "title" | "description" | "status") =>
    (shown[field] ?? "") === (now[field] ?? "") ? null : (
      <span className="small muted">
        {" "}
        ({t("package.differs", { value: text(field, now[field]) ?? t("propose.empty") })})
      </span>
    );
  return (
    <>
      <p className="prose">
        {shown.description || <span className="muted">{t("propose.empty")}</span>}
        {differs("description")}
      </p>
      <dl className="facts">
        {(["title", "status"] as const).map((field) =>
          differs(field) ? (
            <div key={field} data-differs="true">
              <dt>{word(field)}</dt>
              <dd>
                {text(field, shown[field])}
                {differs(field)}
              </dd>
            </div>
          ) : null,
        )}
        <div data-differs={isMoneyChanged}>
          <dt>{word("amount")}</dt>
          <dd>
            <Money amount={shown.amount} currency={shown.currency} />
            {isMoneyChanged ? (
              <span className="small muted">
                {" "}
                ({t("package.differs", { value: `${now.amount ?? "–"} ${now.currency ?? ""}` })})
              </span>
            ) : null}
          </dd>
        </div>
        {SHOWN.map((field) => (
          <div key={field} data-differs={differs(field) !== null}>
            <dt>{word(field)}</dt>
            <dd>
              {text(field, shown[field]) ?? <span className="muted">–</span>}
              {differs(field)}
            </dd>
          </div>
        ))}
        {more.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{typeof value === "string" ? value : <code>{JSON.stringify(value)}</code>}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}

/** Where the life cycle leads from here, and what each step still needs. */
function NextSteps({ one, refresh }: { one: Package; refresh: () => void }) {
  const t = useTranslations();
  const word = useStatusWord();
  const field = useFieldWord();
  const [step, setStep] = useState<string | null>(null);
  const query = useQuery({
    queryKey: ["steps", one.id, one.version],
    queryFn: ({ signal }) =>
      said(
        api.GET("/api/v1/packages/{reference}/transitions", {
          params: { path: { reference: one.id } },
          signal,
        }),
      ),
  });
  return (
    <Card title={t("package.steps")}>
      <Loaded query={query}>
        {(steps) => (
          <ul className="rows">
            {steps.next.length === 0 ? <li className="muted">{t("package.stepsNone")}</li> : null}
            {steps.next.map((next) => (
              <li key={next.step} className="stack">
                <div className="spread">
                  <StatusBadge status={next.status} />
                  {next.you_may_propose ? (
                    <Button onClick={() => setStep(next.status)}>
                      {t("propose.step", { step: word(next.status) })}
                    </Button>
                  ) : (
                    <span className="small muted">{t("package.notYours")}</span>
                  )}
                </div>
                {next.missing.length > 0 ? (
                  <p className="small muted">
                    {t("package.missing", { what: next.missing.map(field).join(", ") })}
                  </p>
                ) : null}
              </li>
            ))}
          </ul>
        )}
      </Loaded>
      {step ? (
        <ProposalDialog<object>
          title={`${one.code}: ${t("propose.step", { step: word(step) })}`}
          gather={() => ({})}
          send={({ reason }, { dryRun, intent }) =>
            said(
              api.POST("/api/v1/packages/{reference}/transitions", {
                params: {
                  path: { reference: one.id },
                  query: { dry_run: dryRun },
                  header: { ...intent, "If-Match": etagOf(one) },
                },
                body: { status: step, reason },
              }),
            )
          }
          onRefresh={refresh}
          onClose={() => setStep(null)}
        />
      ) : null}
    </Card>
  );
}
