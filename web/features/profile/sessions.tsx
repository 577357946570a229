"use client";

import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { Card } from "@/components/card";
import { ProblemNotice } from "@/components/problem-notice";
import { Loaded } from "@/components/query";
import { Ago } from "@/components/show";
import { api, newIntent, said } from "@/lib/api";

/** Where one is signed in; each but this very one can be ended here. */
export function Sessions() {
  const t = useTranslations("profile");
  const client = useQueryClient();
  const query = useQuery({
    queryKey: ["sessions"],
    queryFn: ({ signal }) =>
      said(api.GET("/api/v1/auth/sessions", { params: { query: { limit: 50 } }, signal })),
  });
  const end = useMutation({
    mutationFn: (id: string) =>
      said(
        api.DELETE("/api/v1/auth/sessions/{session_id}", {
          params: { path: { session_id: id }, header: newIntent() },
        }),
      ),
    onSettled: () => client.invalidateQueries({ queryKey: ["sessions"] }),
  });
  return (
    <Card title={t("sessions")}>
      {end.isError ? <ProblemNotice error={end.error} /> : null}
      <Loaded query={query}>
        {(page) => (
          <ul className="rows">
            {page.items.map((one) => (
              <li key={one.id} className="spread">
                <span>
                  {one.client || t(one.kind)}
                  <br />
                  <span className="small muted">
                    <Ago value={one.last_used_at} />
                  </span>
                </span>
                {one.current ? (
                  <span className="badge" data-tone="good">
                    {t("here")}
                  </span>
                ) : (
                  <Button busy={end.isPending} onClick={() => end.mutate(one.id)}>
                    {t("end")}
                  </Button>
                )}
              </li>
            ))}
          </ul>
        )}
      </Loaded>
    </Card>
  );
}
