"use client";

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useRef, useState } from "react";
import { useTranslations } from "use-intl";
import { Button } from "@/components/button";
import { Card } from "@/components/card";
import { TextArea } from "@/components/field";
import { ProblemNotice } from "@/components/problem-notice";
import { Loaded } from "@/components/query";
import { Ago } from "@/components/show";
import { api, newIntent, said } from "@/lib/api";
import { useAttempt } from "@/lib/attempt";

export function Comments({
  entityType,
  entityId,
  mayPropose,
}: {
  entityType: "package" | "approval";
  entityId: string;
  mayPropose: boolean;
}) {
  const t = useTranslations("package");
  const query = useQuery({
    queryKey: ["comments", entityId],
    queryFn: ({ signal }) =>
      said(
        api.GET("/api/v1/comments", {
          params: { query: { entity_type: entityType, entity_id: entityId, sort: "-created_at", limit: 50 } },
          signal,
        }),
      ),
  });
  return (
    <Card title={t("comments")}>
      <Loaded query={query}>
        {(page) => (
          <ul className="rows">
            {page.items.length === 0 ? <li className="muted">{t("commentsNone")}</li> : null}
            {page.items.map((comment) => (
              <li key={comment.id}>
                <p className="spread small">
                  <strong>{comment.author_name}</strong>
                  <span className="muted">
                    <Ago value={comment.created_at} />
                  </span>
                </p>
                <p className="prose">{comment.body}</p>
              </li>
            ))}
          </ul>
        )}
      </Loaded>
      {mayPropose ? <Say entityType={entityType} entityId={entityId} /> : null}
    </Card>
  );
}

function Say({ entityType, entityId }: { entityType: "package" | "approval"; entityId: string }) {
  const t = useTranslations();
  const client = useQueryClient();
  const [body, setBody] = useState("");
  const { attempt, isBusy, problem } = useAttempt();
  const intent = useRef(newIntent());

  function send(event: FormEvent) {
    event.preventDefault();
    if (body.trim() === "") return;
    void attempt(async () => {
      await said(
        api.POST("/api/v1/comments", {
          params: { header: intent.current },
          body: { body, entity_type: entityType, entity_id: entityId },
        }),
      );
      setBody("");
      intent.current = newIntent();
      void client.invalidateQueries({ queryKey: ["comments", entityId] });
    });
  }

  return (
    <form className="card-body" onSubmit={send}>
      <TextArea
        label={t("package.comment")}
        value={body}
        onChange={(event) => {
          setBody(event.target.value);
          intent.current = newIntent();
        }}
        error={problem?.of("body")}
      />
      {problem ? <ProblemNotice error={problem} /> : null}
      <div className="actions">
        <Button type="submit" busy={isBusy}>
          {t("do.send")}
        </Button>
      </div>
    </form>
  );
}
