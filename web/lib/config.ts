/** What the server is told at run time: one build serves every installation. */
export const config = {
  /** Where the API listens, without a trailing slash. */
  get api(): string {
    return (process.env.PMIS_API_URL ?? "http://127.0.0.1:8000").replace(/\/+$/, "");
  },
  /** Shows the API that a request came through this server, so that it hears who asks from where. */
  get proxySecret(): string | undefined {
    return process.env.PMIS_PROXY_SECRET || undefined;
  },
  /** Whether a proxy of one's own stands in front and says whose request it is. */
  get behindProxy(): boolean {
    return process.env.PMIS_WEB_BEHIND_PROXY === "1";
  },
};
