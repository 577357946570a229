import createClient from "openapi-fetch";
import type { components, paths } from "@/client/schema";
import { type Need, pass } from "@/lib/gate";
import { asProblem, problemOf } from "@/lib/problem";

export type Schemas = components["schemas"];
export type Package = Schemas["Package"];
export type Approval = Schemas["Approval"];
export type Task = Schemas["Task"];
export type Project = Schemas["Project"];
export type Preview = Schemas["Preview"];
export type Outcome = Schemas["Outcome"];
export type Me = Schemas["Me"];
export type EventOut = Schemas["EventOut"];

const NEEDS: Readonly<Record<string, Need>> = { unauthenticated: "sign-in", step_up_needed: "step-up" };

/** Signing in is refused as a wrong password is: there is nobody to ask. */
const OPEN = /^\/api\/v1\/auth\/(login|reauthenticate|logout|refresh)$/;

/**
 * `fetch`, with a person in between: where a request needs a session that is gone, or a fresh proof of who asks, the
 * page asks for it and the very same request goes again, under the same key. What was typed is never lost.
 */
async function governedFetch(request: Request): Promise<Response> {
  for (;;) {
    const answer = await fetch(request.clone());
    const need = OPEN.test(new URL(request.url).pathname) ? undefined : await needOf(answer);
    if (need === undefined || !(await pass(need))) return answer;
  }
}

async function needOf(answer: Response): Promise<Need | undefined> {
  if (answer.status !== 401 && answer.status !== 403) return undefined;
  const said: unknown = await answer
    .clone()
    .json()
    .catch(() => null);
  return typeof said === "object" && said !== null && "code" in said ? NEEDS[String(said.code)] : undefined;
}

/** The API as its description says it, typed. */
export const api = createClient<paths>({
  baseUrl: typeof window === "undefined" ? "http://localhost" : window.location.origin,
  fetch: governedFetch,
});

type Answer<T> = Promise<{ data?: T; error?: unknown; response: Response }>;

/** What the API answered; a refusal, or no answer, is thrown as a Problem. */
export async function said<T>(answer: Answer<T>): Promise<T> {
  const { data, error, response } = await answer.catch((reason: unknown) => {
    if (reason instanceof DOMException && reason.name === "AbortError") throw reason;
    throw asProblem(reason);
  });
  if (!response.ok) throw problemOf(response, error);
  return data as T;
}

/** A key for one intention: however often it is sent, it happens once. */
export function newIntent(): { "Idempotency-Key": string } {
  return { "Idempotency-Key": crypto.randomUUID() };
}

export function etagOf(record: { version: number }): string {
  return `"${record.version}"`;
}
