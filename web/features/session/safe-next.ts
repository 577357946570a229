/** Only a path of this very site: an address from elsewhere leads home. */
export function safeNext(asked: string | null): string {
  if (asked === null || !/^\/(?![/\\])/.test(asked)) return "/";
  const found = new URL(asked, "http://here");
  return found.origin === "http://here" ? found.pathname + found.search : "/";
}
