/** The life cycles as the shipped policy says them, in the order in which work goes; a board's lanes. */
export const PACKAGE_STATUSES = [
  "draft",
  "submitted",
  "in_review",
  "approved",
  "awarded",
  "active",
  "on_hold",
  "completed",
  "cancelled",
] as const;

/** Fields of a package that a person may change, in the order of a form. */
export const PACKAGE_FIELDS = [
  "title",
  "description",
  "owner_id",
  "vendor_id",
  "amount",
  "currency",
  "planned_start",
  "planned_end",
  "actual_start",
  "actual_end",
  "external_ref",
] as const;

export type PackageField = (typeof PACKAGE_FIELDS)[number];
export type PackageValues = Partial<Record<PackageField, string | null>>;

/** What was typed, as the API takes it: nothing where nothing was typed; `before` leaves out what stayed as it was. */
export function changedValues(
  form: FormData,
  before: Readonly<Partial<Record<PackageField, string | null | undefined>>>,
): PackageValues {
  const changed: PackageValues = {};
  for (const field of PACKAGE_FIELDS) {
    const typed = form.get(field);
    if (typeof typed !== "string") continue;
    const value = field === "description" ? typed : typed.trim() || null;
    if (value !== (before[field] ?? (field === "description" ? "" : null))) changed[field] = value;
  }
  return changed;
}
