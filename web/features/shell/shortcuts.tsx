"use client";

import { useTranslations } from "use-intl";
import { Dialog } from "@/components/dialog";

const KEYS = [
  ["Ctrl K", "palette"],
  ["?", "help"],
  ["/", "search"],
  ["g h", "home"],
  ["g p", "packages"],
  ["g a", "approvals"],
  ["g t", "tasks"],
  ["j", "next"],
  ["k", "previous"],
  ["Enter", "open"],
  ["a", "approve"],
  ["r", "reject"],
  ["c", "request"],
] as const;

export function Shortcuts({ onClose }: { onClose: () => void }) {
  const t = useTranslations("keys");
  return (
    <Dialog title={t("title")} onClose={onClose}>
      <dl className="facts">
        {KEYS.map(([keys, name]) => (
          <div key={keys} className="spread">
            <dt>{t(name)}</dt>
            <dd>
              {keys.split(" ").map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
