"use client";

import { ProblemNotice } from "@/components/problem-notice";
import { Problem } from "@/lib/problem";

/** What the server could not render: its words stay with the server, the number leads to them. */
export default function Failed({ error, reset }: { error: Error & { digest?: string }; reset: () => void }) {
  return (
    <main className="page">
      <ProblemNotice
        error={
          new Problem("page_failed", error.message, { status: 500, correlationId: error.digest ?? null })
        }
        onRetry={reset}
      />
    </main>
  );
}
