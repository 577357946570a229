"use client";

import { useTranslations } from "use-intl";
import type { Schemas } from "@/lib/api";
import type { Messages } from "@/lib/messages";

type Waiting = {
  id: string;
  name?: string;
  roles: readonly string[];
  quorum: number;
  missing?: number;
  ready?: boolean;
};

function isWaiting(step: unknown): step is Waiting {
  return typeof step === "object" && step !== null && "roles" in step && "quorum" in step;
}

export function useRoleWord(): (role: string) => string {
  const t = useTranslations("role");
  return (role) => (t.has(role as keyof Messages["role"]) ? t(role as keyof Messages["role"]) : role);
}

export function useRouteWord(): (route: string) => string {
  const t = useTranslations("route");
  return (route) => (t.has(route as keyof Messages["route"]) ? t(route as "AUTO") : t("unknown", { route }));
}

/** Who must agree, in their order. */
export function Agreeing({ steps, title }: { steps: readonly unknown[]; title: string }) {
  const t = useTranslations();
  const role = useRoleWord();
  const waiting = steps.filter(isWaiting);
  if (waiting.length === 0) return null;
  return (
    <section className="stack">
      <h3>{title}</h3>
      <ol className="rows">
        {waiting.map((step) => (
          <li key={step.id} className="spread">
            <span>
              {t("propose.whoStep", {
                quorum: step.missing ?? step.quorum,
                roles: step.roles.map(role).join(", "),
              })}
            </span>
            {waiting.length > 1 ? (
              <span className="badge">
                {step.ready === false ? t("approvals.later") : t("approvals.ready")}
              </span>
            ) : null}
          </li>
        ))}
      </ol>
    </section>
  );
}

/** Why the policy chose this route, in its own words. */
export function Reasons({ reasons, rule }: { reasons: readonly Schemas["OutcomeReason"][]; rule: string }) {
  const t = useTranslations();
  return (
    <details>
      <summary>{t("propose.why")}</summary>
      <ul className="stack small">
        {reasons.map((reason) => (
          <li key={`${reason.rule}-${reason.text}`}>{reason.text}</li>
        ))}
        <li className="muted">{t("approvals.rule", { rule })}</li>
      </ul>
    </details>
  );
}
