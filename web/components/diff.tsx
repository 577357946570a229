"use client";

import { useLocale, useTranslations } from "use-intl";
import { isStatus, useStatusWord } from "@/components/show";
import type { Schemas } from "@/lib/api";
import * as format from "@/lib/format";
import type { Messages } from "@/lib/messages";
import { useNames } from "@/lib/names";

type Field = keyof Messages["field"];

/** The word for a field; one that a package type of one's own added is shown by its own name. */
export function useFieldWord(): (field: string) => string {
  const t = useTranslations("field");
  return (field) =>
    t.has(field as Field) ? t(field as Field) : field.replace(/^data\./, "").replaceAll("_", " ");
}

/** A value as a person reads it: names for ids, days and statuses in words, the rest as it is stored. */
export function useValueText(): (field: string, value: unknown) => string | null {
  const locale = useLocale();
  const status = useStatusWord();
  const names = useNames();
  return (field, value) => {
    if (value === null || value === undefined || value === "") return null;
    if (typeof value !== "string") return JSON.stringify(value);
    if (field === "status" && isStatus(value)) return status(value);
    if (field.endsWith("_id")) return names.get(value) ?? value;
    if (/^\d{4}-\d{2}-\d{2}$/.test(value)) return format.day(value, locale);
    return value;
  };
}

/** What a change does to each record, field by field. */
export function Diff({ records }: { records: readonly Schemas["RecordDiff"][] }) {
  const t = useTranslations("propose");
  const operation = useTranslations("operation");
  const word = useFieldWord();
  const text = useValueText();
  const named = (name: string) => (operation.has(name as "create") ? operation(name as "create") : name);
  return records.map((record) => (
    <figure key={`${record.target}-${record.operation}`}>
      <figcaption className="small muted">
        {named(record.operation)}: {record.label}
      </figcaption>
      <table className="diff">
        <thead>
          <tr>
            <th scope="col">
              <span className="hidden">{t("field")}</span>
            </th>
            <th scope="col">{t("before")}</th>
            <th scope="col">{t("after")}</th>
          </tr>
        </thead>
        <tbody>
          {record.fields.map((field) => (
            <tr key={field.field}>
              <th scope="row">{word(field.field)}</th>
              <td>
                {text(field.field, field.before) === null ? (
                  <span className="muted">{t("empty")}</span>
                ) : (
                  <del>{text(field.field, field.before)}</del>
                )}
              </td>
              <td>
                {text(field.field, field.after) === null ? (
                  <span className="muted">{t("empty")}</span>
                ) : (
                  <ins>{text(field.field, field.after)}</ins>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </figure>
  ));
}
