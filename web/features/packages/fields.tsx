"use client";

import { useTranslations } from "use-intl";
import { SelectField, TextArea, TextField } from "@/components/field";
import type { Package } from "@/lib/api";
import { usePeople, useVendors } from "@/lib/names";
import type { Problem } from "@/lib/problem";

/** The fields of a package as a form, filled with what they are; what the server finds wrong stands at its field. */
export function PackageFields({ one, problem }: { one?: Package; problem: Problem | null }) {
  const t = useTranslations();
  const people = usePeople().data ?? [];
  const vendors = useVendors().data ?? [];
  const choices = (none: string, items: readonly { id: string; name: string }[]) => [
    { value: "", label: none },
    ...items.map((item) => ({ value: item.id, label: item.name })),
  ];
  const common = (
    field:
      | "title"
      | "amount"
      | "currency"
      | "planned_start"
      | "planned_end"
      | "actual_start"
      | "actual_end"
      | "external_ref",
  ) => ({
    name: field,
    label: t(`field.${field}`),
    error: problem?.of(field),
    defaultValue: one?.[field] ?? "",
  });
  return (
    <>
      <TextField {...common("title")} required wide />
      <TextArea
        name="description"
        label={t("field.description")}
        error={problem?.of("description")}
        defaultValue={one?.description ?? ""}
      />
      <TextField {...common("amount")} inputMode="decimal" />
      <TextField {...common("currency")} maxLength={3} autoCapitalize="characters" />
      {/* A list that arrives later must still show what is chosen. */}
      <SelectField
        key={`owner-${people.length}`}
        name="owner_id"
        label={t("field.owner_id")}
        error={problem?.of("owner_id")}
        defaultValue={one?.owner_id ?? ""}
        choices={choices(t("packages.nobody"), people)}
      />
      <SelectField
        key={`vendor-${vendors.length}`}
        name="vendor_id"
        label={t("field.vendor_id")}
        error={problem?.of("vendor_id")}
        defaultValue={one?.vendor_id ?? ""}
        choices={choices(t("packages.nothing"), vendors)}
      />
      <TextField {...common("planned_start")} type="date" />
      <TextField {...common("planned_end")} type="date" />
      {one ? <TextField {...common("actual_start")} type="date" /> : null}
      {one ? <TextField {...common("actual_end")} type="date" /> : null}
      <TextField {...common("external_ref")} />
    </>
  );
}
