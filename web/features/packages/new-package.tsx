"use client";

import { useRouter } from "next/navigation";
import { useTranslations } from "use-intl";
import { PackageFields } from "@/features/packages/fields";
import { ProposalDialog } from "@/features/proposal/proposal-dialog";
import { api, said } from "@/lib/api";
import { changedValues, type PackageValues } from "@/lib/status";
import { useViewer } from "@/lib/viewer";

export function NewPackage({ onClose }: { onClose: () => void }) {
  const t = useTranslations("propose");
  const { project } = useViewer();
  const router = useRouter();
  return (
    <ProposalDialog<{ values: PackageValues }>
      title={t("new")}
      gather={(form) => ({ values: changedValues(form, { currency: null }) })}
      send={({ values, reason }, { dryRun, intent }) =>
        said(
          api.POST("/api/v1/packages", {
            params: { query: { dry_run: dryRun }, header: intent },
            body: { title: "", ...withoutNull(values), project: project?.id ?? null, reason },
          }),
        )
      }
      onDone={(outcome) => {
        const code = outcome.resource?.code;
        if (typeof code === "string") router.push(`/packages/${code}`);
      }}
      onClose={onClose}
    >
      {(problem) => <PackageFields problem={problem} />}
    </ProposalDialog>
  );
}

function withoutNull(values: PackageValues): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).filter((entry): entry is [string, string] => entry[1] !== null),
  );
}
