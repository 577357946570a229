export const dynamic = "force-dynamic";

/** Whether this server answers; what the API does is asked of the API. */
export function GET(): Response {
  return Response.json({ status: "ok" }, { headers: { "cache-control": "no-store" } });
}
