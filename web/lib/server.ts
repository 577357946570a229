import "server-only";
import { headers } from "next/headers";
import { redirect } from "next/navigation";
import { config } from "@/lib/config";
import { forwardedHeaders } from "@/lib/forward";
import { problemOf } from "@/lib/problem";

/**
 * What the API answers to the person whose page this is. Raises Problem; somebody who is not signed in is sent to sign
 * in, and comes back here.
 */
export async function load<T>(path: string): Promise<T> {
  const asked = await headers();
  const sent = forwardedHeaders(new Headers(asked));
  sent.set("accept", "application/json");
  for (const name of ["content-type", "origin", "if-none-match"]) sent.delete(name);
  const answer = await fetch(`${config.api}/api/v1${path}`, { headers: sent, cache: "no-store" });
  if (answer.status === 401) {
    redirect(`/sign-in?next=${encodeURIComponent(asked.get("x-pmis-path") ?? "/")}`);
  }
  const body: unknown = await answer.json().catch(() => null);
  if (!answer.ok) throw problemOf(answer, body);
  return body as T;
}
