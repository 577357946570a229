import { sendOn } from "@/lib/upstream";

export const dynamic = "force-dynamic";

/** Everything under `/api` is the API's own: bytes go through as they come, both ways. */
async function pass(request: Request): Promise<Response> {
  return sendOn(request).catch(() =>
    unreachable(request.headers.get("x-correlation-id") ?? crypto.randomUUID()),
  );
}

function unreachable(correlation: string): Response {
  const problem = {
    type: "urn:pmis:problem:api_unreachable",
    title: "The server does not answer",
    status: 502,
    detail:
      "Nothing was lost: try again in a moment. If it goes on, tell whoever runs PMIS that the API is down.",
    code: "api_unreachable",
    correlation_id: correlation,
  };
  return Response.json(problem, {
    status: 502,
    headers: {
      "content-type": "application/problem+json",
      "retry-after": "2",
      "x-correlation-id": correlation,
    },
  });
}

export { pass as DELETE, pass as GET, pass as PATCH, pass as POST, pass as PUT };
