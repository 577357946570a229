/** What a person likes to see, kept by their browser for a year; nothing in it is secret. */
export const COOKIES = {
  theme: "pmis_theme",
  density: "pmis_density",
  locale: "pmis_locale",
  project: "pmis_project",
} as const;

const YEAR = 31_536_000;

export function remember(what: keyof typeof COOKIES, value: string): void {
  // biome-ignore lint/suspicious/noDocumentCookie: the Cookie Store API is not in every browser we serve
  document.cookie = `${COOKIES[what]}=${encodeURIComponent(value)}; path=/; max-age=${YEAR}; samesite=lax`;
}
