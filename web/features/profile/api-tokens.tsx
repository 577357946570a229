"use client";

import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { Card } from "@/components/card";
import { Dialog } from "@/components/dialog";
import { SelectField, TextField } from "@/components/field";
import { ProblemNotice } from "@/components/problem-notice";
import { Loaded } from "@/components/query";
import { Ago } from "@/components/show";
import { api, newIntent, type Schemas, said } from "@/lib/api";
import { asProblem } from "@/lib/problem";

const DAYS = ["7", "30", "90", "365"] as const;

/** The tokens of one's own programs: made, seen once, and revoked here. */
export function ApiTokens() {
  const t = useTranslations("profile");
  const client = useQueryClient();
  const [isOpen, setOpen] = useState(false);
  const query = useQuery({
    queryKey: ["tokens"],
    queryFn: ({ signal }) => said(api.GET("/api/v1/tokens", { params: { query: { limit: 100 } }, signal })),
  });
  const revoke = useMutation({
    mutationFn: (id: string) =>
      said(
        api.DELETE("/api/v1/tokens/{token_id}", { params: { path: { token_id: id }, header: newIntent() } }),
      ),
    onSettled: () => client.invalidateQueries({ queryKey: ["tokens"] }),
  });
  return (
    <Card title={t("tokens")} aside={<Button onClick={() => setOpen(true)}>{t("newToken")}</Button>}>
      {revoke.isError ? <ProblemNotice error={revoke.error} /> : null}
      <Loaded query={query}>
        {(page) => (
          <ul className="rows">
            {page.items.length === 0 ? <li className="muted">{t("tokensNone")}</li> : null}
            {page.items.map((one) => (
              <li key={one.id} className="spread">
                <span>
                  {one.name} <span className="small muted">({t(one.scope)})</span>
                  <br />
                  <span className="small muted">
                    {t.rich("ends", { when: () => <Ago value={one.expires_at} /> })}
                  </span>
                </span>
                <Button look="bad" busy={revoke.isPending} onClick={() => revoke.mutate(one.id)}>
                  {t("revoke")}
                </Button>
              </li>
            ))}
          </ul>
        )}
      </Loaded>
      {isOpen ? <NewToken onClose={() => setOpen(false)} /> : null}
    </Card>
  );
}

function NewToken({ onClose }: { onClose: () => void }) {
  const t = useTranslations("profile");
  const action = useTranslations("do");
  const client = useQueryClient();
  const [made, setMade] = useState<Schemas["NewToken"] | null>(null);
  const make = useMutation({
    mutationFn: (body: Schemas["TokenCreate"]) =>
      said(api.POST("/api/v1/tokens", { params: { header: newIntent() }, body })),
    onSuccess: (token) => {
      setMade(token);
      void client.invalidateQueries({ queryKey: ["tokens"] });
    },
  });
  const problem = make.isError ? asProblem(make.error) : null;

  function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    make.mutate({
      name: String(form.get("name") ?? "").trim(),
      scope: form.get("scope") === "write" ? "write" : "read",
      expires_in_days: Number(form.get("days")),
    });
  }

  return (
    <Dialog title={t("newToken")} onClose={onClose}>
      {made ? (
        <>
          <p className="notice" data-tone="warn">
            {t("once")}
          </p>
          <output className="mono prose">{made.token}</output>
          <div className="actions">
            <Button onClick={() => void navigator.clipboard.writeText(made.token)}>{action("copy")}</Button>
            <Button look="main" onClick={onClose}>
              {action("close")}
            </Button>
          </div>
        </>
      ) : (
        <form className="stack" onSubmit={submit} noValidate>
          <TextField name="name" label={t("tokenName")} error={problem?.of("name")} required />
          <SelectField
            name="scope"
            label={t("scope")}
            choices={[
              { value: "read", label: t("read") },
              { value: "write", label: t("write") },
            ]}
          />
          <SelectField
            name="days"
            label={t("days")}
            defaultValue="30"
            error={problem?.of("expires_in_days")}
            choices={DAYS.map((days) => ({ value: days, label: days }))}
          />
          {problem ? <ProblemNotice error={problem} /> : null}
          <div className="actions">
            <Button onClick={onClose}>{action("cancel")}</Button>
            <Button type="submit" look="main" busy={make.isPending}>
              {t("make")}
            </Button>
          </div>
        </form>
      )}
    </Dialog>
  );
}
