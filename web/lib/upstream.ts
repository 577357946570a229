import "server-only";
import { request as overHttp } from "node:http";
import { request as overHttps } from "node:https";
import { Readable } from "node:stream";
import type { ReadableStream as NodeStream } from "node:stream/web";
import { config } from "@/lib/config";
import { forwardedHeaders } from "@/lib/forward";

const HELD = new Set(["connection", "keep-alive", "transfer-encoding"]);
const BODYLESS = new Set([204, 205, 304]);

/**
 * Sends the request on to the API and gives its answer as it comes, byte by byte. `fetch` would not do: it puts its own
 * `Host`, by which the API tells its own pages from others'. Rejects when the API does not answer; a browser that leaves
 * takes the request with it.
 */
export function sendOn(request: Request): Promise<Response> {
  const asked = new URL(request.url);
  const target = new URL(`${config.api}${asked.pathname}${asked.search}`);
  const send = target.protocol === "https:" ? overHttps : overHttp;
  return new Promise((resolve, reject) => {
    const sent = send(
      target,
      { method: request.method, headers: Object.fromEntries(forwardedHeaders(request.headers)) },
      (answer) => {
        const headers = new Headers();
        for (let index = 0; index < answer.rawHeaders.length; index += 2) {
          const name = answer.rawHeaders[index] ?? "";
          if (!HELD.has(name.toLowerCase())) headers.append(name, answer.rawHeaders[index + 1] ?? "");
        }
        const status = answer.statusCode ?? 502;
        const body = BODYLESS.has(status) ? null : (Readable.toWeb(answer) as ReadableStream<Uint8Array>);
        resolve(new Response(body, { status, headers }));
      },
    );
    sent.on("error", reject);
    request.signal.addEventListener("abort", () => sent.destroy());
    if (request.body === null) sent.end();
    else
      Readable.fromWeb(request.body as NodeStream)
        .on("error", reject)
        .pipe(sent);
  });
}
