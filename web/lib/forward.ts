import { config } from "@/lib/config";

/** Headers that belong to one connection, or that only we may set. */
const DROPPED = new Set([
  "connection",
  "content-length",
  "expect",
  "forwarded",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "x-proxy-secret",
]);
const OURS = /^x-(user|forwarded|middleware|nextjs|invoke|nonce)/;

/**
 * The headers that go on to the API: the caller's own, without those of the connection and without those by which a
 * proxy says who somebody is. The host stays the one that the browser asked, as the API takes changes only from pages of
 * that very origin. Only a proxy in front of us is believed about where a request came from.
 */
export function forwardedHeaders(given: Headers): Headers {
  const sent = new Headers();
  for (const [name, value] of given) {
    if (!DROPPED.has(name) && !OURS.test(name)) sent.append(name, value);
  }
  sent.set("accept-encoding", "identity");
  if (config.behindProxy) {
    for (const name of ["x-forwarded-for", "x-forwarded-proto"]) {
      const value = given.get(name);
      if (value) sent.set(name, value);
    }
  }
  if (config.proxySecret) sent.set("x-proxy-secret", config.proxySecret);
  return sent;
}
